"""`bench variance`: the three spreads of a score are right where all three are known, and what is finished is kept."""

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.execute.resample import FILE, further_seed, resample
from bench.execute.run import artifacts_folder
from bench.metrics.base import Metric
from bench.model import GenerativeModel
from bench.plan import Part, plan, with_present_code
from bench.record import Measurement
from bench.report.variance import cells_of, components
from bench.space import VectorSpace
from bench.stats.variance import variance_components
from bench.store import ResultStore
from bench.suite import load_config
from bench.trial import run_trial

TRAINING, SPREAD, SAMPLES, SEEDS, SETS = 0.4, 1.0, 50, 5, 8
SAMPLING = SPREAD / (2 * SAMPLES) ** 0.5
CONFIG = f"""
[suites.known]
datasets = ["ring8"]
models = ["vae"]
baselines = ["noise"]
seeds = {list(range(SEEDS))}
budget = {{ steps = 2 }}
samples = {SAMPLES}
sample_batch = 20
metrics = ["kernel"]
"""


class Level(GenerativeModel):
    """Points around a level that its training seed has drawn."""

    spaces = (VectorSpace,)

    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.register_buffer("level", TRAINING * torch.randn(()))

    def train_step(self, batch, progress):
        return {"loss": 0.0}

    def sample(self, n, generator, **options):
        return self.level + SPREAD * generator.randn(*self.space.shape)


class Mean(Metric):
    """Mean of all numbers, whose standard error is known."""

    needs = frozenset()

    def measure(self, evidence):
        half = 1.96 * evidence.samples.std(ddof=1) / evidence.samples.size**0.5
        value = float(evidence.samples.mean())
        return [
            Measurement(value, name="mean", low=value - half, high=value + half, direction="lower", interval="normal")
        ]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Trained models with their records, as `bench run` leaves them."""
    folder = tmp_path_factory.mktemp("known")
    (folder / "benchmarks.toml").write_text(CONFIG)
    store = ResultStore(folder / "results" / "known")
    here = {
        "model_target": f"{__name__}:Level",
        "metrics": (Part(name="mean", target=f"{__name__}:Mean", digest="1"),),
        "model_config_": {},
    }
    for trial in plan(load_config(folder / "benchmarks.toml"), "known", device="cpu"):
        if trial.role == "trained":
            trial = with_present_code(trial.model_copy(update=here))
            out = artifacts_folder(store, trial.id)
            out.mkdir(parents=True)
            (out / "trial.json").write_text(trial.model_dump_json())
            store.append(run_trial(trial, out))
    return store


def test_the_three_spreads_of_a_known_model_are_found(store):
    records = store.current()
    assert [r.status for r in records] == ["complete"] * SEEDS, records[0].reason
    found = resample(store, records, ["mean"], SETS)
    scores = np.array([[scores["mean"][0] for scores in run.sets] for run in found])
    assert len(np.unique(scores)) == SEEDS * SETS, "a sample set was drawn twice"
    assert scores[:, 0] == pytest.approx([r.measurements[-1].value for r in records])  # the stored set is the first
    certain = variance_components(scores, level=1 - 1e-6)
    assert certain.training.low <= TRAINING <= certain.training.high
    assert certain.sampling.low <= SAMPLING <= certain.sampling.high
    split = components(found, "mean")
    assert split.finite == pytest.approx(SAMPLING, rel=5 / (2 * 2 * SAMPLES * SEEDS) ** 0.5)
    [head, row], left_out = cells_of(found, "mean")
    assert row[:2] == ["ring8/vae", f"{SEEDS} x {SETS}"]
    assert head[3:6] == ["training seed", "sampling seed", "finite sample"]
    assert not left_out


def test_finished_sets_are_kept_and_a_changed_metric_scores_anew(store):
    record = store.current()[0]
    first = resample(store, [record], ["mean"], 3)
    kept = artifacts_folder(store, record.trial) / FILE
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*lines[1:], '{"torn']) + "\n")  # set 1 is lost, a line is torn
    said = []
    again = resample(store, [record], ["mean"], 3, said.append)
    assert again == first
    assert any("sample set 2" in text for text in said)
    assert not any("sample set 3" in text for text in said)


def test_a_metric_changed_since_is_not_mixed_with_what_it_said_before(store):
    record = store.current()[0]
    older = record.model_copy(update={"scoring": {"mean": "of another day"}})
    with pytest.raises(
        BenchError, match="the code of metric 'mean' has changed since it was scored; run `bench run known`"
    ):
        resample(store, [older], ["mean"], 2)


def test_models_that_are_not_there_are_one_sentence(store, tmp_path):
    with pytest.raises(
        BenchError, match=r"`bench variance` draws new samples from trained models; run `bench run known`"
    ):
        resample(ResultStore(tmp_path), store.current()[:1], ["mean"], 2)


def test_seeds_of_further_sets_differ():
    seeds = {further_seed(training, number) for training in range(50) for number in range(20)}
    assert len(seeds) == 50 * 20
