"""Every metric that a suite can name, once, in a real small suite: a conditional model with latents and a likelihood."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry
from bench.store import ResultStore

MODEL = '''
import torch
from bench import GenerativeModel

class Everything(GenerativeModel):
    """A linear autoencoder that can do all that a metric may ask for."""

    conditions = "class"
    nll_kind = "exact"
    classes = 10

    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.encoder = torch.nn.Linear(space.dimensions, 16)
        self.decoder = torch.nn.Linear(16, space.dimensions)
        self.register_buffer("means", torch.zeros(10, *space.shape))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)

    def train_step(self, batch, progress):
        for label in range(10):
            mine = batch.x[batch.labels == label]
            if len(mine):
                self.means[label] += 0.2 * (mine.mean(0) - self.means[label])
        loss = (self.reconstruct(batch.x) - batch.x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def encode(self, x):
        return self.encoder(x.flatten(1))

    def decode(self, z):
        return self.decoder(z).reshape(-1, *self.space.shape)

    def reconstruct(self, x):
        return self.decode(self.encode(x))

    def nll(self, x):
        return torch.full((len(x),), self.space.dimensions * 5.0)

    latent = 16

    def style(self, z):
        return 2 * z

    def synthesise(self, w):
        return self.decode(w)

    def code_usage(self):
        return {"codes_used": 0.5, "perplexity": 3.0}

    def labels_of(self, indices):
        return indices % self.classes

    def sample(self, n, generator, labels=None):
        labels = self.labels_of(generator.indices) if labels is None else labels
        return self.means[labels] + 0.1 * generator.randn(*self.space.shape)
'''

ABSENT = {"sfid", "stacked-modes", "modes", "captions", "lpips-reconstruction"}
"""They need Inception's weights, stacked MNIST, data with a known truth (below), captions; the last is a network pass a test image."""

DUE = {
    "fd_dataset_classifier", "fd_corrected_dataset_classifier", "fd_infinity_dataset_classifier",
    "cmmd_dataset_classifier", "kid_dataset_classifier", "realism_dataset_classifier",
    "is_dataset_classifier", "density_dataset_classifier", "clipped_coverage_dataset_classifier",
    "vendi_q2_dataset_classifier", "mifd_dataset_classifier", "authpct_dataset_classifier",
    "data_copying_ct_dataset_classifier", "ndb_dataset_classifier", "jsd_bins_dataset_classifier",
    "collapsed_dataset_classifier", "fld_dataset_classifier", "sliced_w2_dataset_classifier",
    "rfd_dataset_classifier", "reconstruction_psnr", "denoising_gain_0.25", "bits_per_dim_exact",
    "compression_vs_png_exact", "intra_fd_dataset_classifier", "classification_accuracy_score",
    "condition_consistency", "ppl_z_full_l2", "ppl_w_full_eps0.001_l2", "codes_used", "path_linearity", "ms_ssim_diversity_within", "pdist_effnetlite0_diversity",
    "pdist_effnetlite0_diversity_within", "accuracy_dataset_classifier",
}  # fmt: skip


def run(folder, suite):
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1]), "XDG_CACHE_HOME": str(folder),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "run", suite],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_every_metric_runs_in_a_suite(tmp_path):
    metrics = sorted(set(registry.entries("metric")) - ABSENT)
    (tmp_path / "my_models.py").write_text(MODEL)
    (tmp_path / "benchmarks.toml").write_text(
        f"""
[suites.all]
datasets = ["digits16"]
models = ["everything"]
baselines = []
seeds = [0]
budget = {{ steps = 40 }}
samples = 160
extractor = "dataset-classifier"
metrics = {metrics}
rank_by = "kid_dataset_classifier"

[datasets.digits16]
dataset = "digits"
options = {{ resolution = 16 }}

[models.everything]
class = "my_models:Everything"
"""
    )
    run(tmp_path, "all")
    record = next(r for r in ResultStore(tmp_path / "results" / "all").records() if r.model == "everything")
    assert record.status == "complete", record.reason
    found = {fields.name: fields for fields in record.measurements}
    assert set(found) >= DUE, sorted(DUE - set(found))
    for fields in record.measurements:
        assert fields.source == "cost" or fields.low is not None or fields.note, (
            f"{fields.name} has neither an interval nor a reason"
        )
    assert found["condition_consistency"].value > 0.5
    assert found["accuracy_dataset_classifier"].value > 0.8


def test_modes_in_a_suite(tmp_path):
    """Training examples reach all modes; a single Gaussian around all of them has fewer samples in them."""
    (tmp_path / "benchmarks.toml").write_text(
        """
[suites.modes]
datasets = ["ring8"]
models = ["gaussian"]
baselines = ["copy-train"]
seeds = [0]
budget = { steps = 1 }
samples = 200
metrics = ["modes"]
rank_by = "high_quality"
"""
    )
    run(tmp_path, "modes")
    found = {
        record.model: {m.name: m.value for m in record.measurements}
        for record in ResultStore(tmp_path / "results" / "modes").records()
    }
    assert found["copy-train"]["modes_captured"] == 8
    assert found["copy-train"]["high_quality"] > 0.9 > found["gaussian"]["high_quality"]
    assert found["copy-train"]["mode_kl"] < 0.2


def test_a_held_out_class_is_an_anomaly_in_a_suite(tmp_path):
    """The shipped suite, in few steps: its table shows how well errors tell the digit that training never showed."""
    text = (Path(__file__).parents[1] / "benchmarks.toml").read_text()
    begin = text.index("[suites.anomaly]")
    suite = text[begin : text.index("\n[", begin) + 1].replace("{ seconds = 5 }", "{ steps = 150 }")
    suite = suite.replace("seeds = [0, 1, 2]", "seeds = [0]").partition("\n# ")[0]
    (tmp_path / "benchmarks.toml").write_text(
        suite
        + """
[datasets.digits16-without-9]
dataset = "digits"
options = { resolution = 16, held_out = [9] }

[models.vae-beta4]
model = "vae"
config = { beta = 4.0 }
"""
    )
    run(tmp_path, "anomaly")
    found = [r for r in ResultStore(tmp_path / "results" / "anomaly").records() if r.role == "trained"]
    assert len(found) == 3
    for record in found:
        (area,) = (m for m in record.measurements if m.name == "anomaly_auroc")
        assert area.low is not None
        assert area.value > 0.5
    page = (tmp_path / "results" / "anomaly" / "leaderboard.md").read_text()
    assert "anomaly_auroc" in page.split("<details>")[0]


SEVERAL = """
[suites.several]
datasets = ["digits"]
models = ["vae"]
baselines = []
seeds = [0]
budget = {{ steps = 20 }}
samples = 60
extractor = {extractor}
metrics = ["frechet", "kernel", "likelihood"]
rank_by = "kid_dataset_classifier"
"""


def test_several_extractors(tmp_path):
    """Another extractor scores the stored samples; what reads no features is measured once; the first extractor ranks."""
    found = []
    for extractor in ('"dataset-classifier"', '["dataset-classifier", "effnetlite0"]'):
        (tmp_path / "benchmarks.toml").write_text(SEVERAL.format(extractor=extractor))
        run(tmp_path, "several")
        found.append([r for r in ResultStore(tmp_path / "results" / "several").records() if r.model == "vae"][-1])
    before, after = ({m.name: m for m in record.measurements} for record in found)
    assert found[0].trial == found[1].trial
    assert found[0].seconds["training"] == found[1].seconds["training"]
    assert set(after) - set(before) == {"kid_effnetlite0", *(m for m in after if m.startswith("fd_") and "effnet" in m)}
    assert after["kid_dataset_classifier"].value == pytest.approx(before["kid_dataset_classifier"].value, rel=1e-6)
    assert after["kid_effnetlite0"].protocol != after["kid_dataset_classifier"].protocol
    names = [m.name for m in found[1].measurements]
    assert len(names) == len(set(names))
    page = (tmp_path / "results" / "several" / "leaderboard.md").read_text()
    assert "extractor: dataset-classifier, effnetlite0 (" in page
    assert page.index("kid_dataset_classifier") < page.index("kid_effnetlite0")
