"""Extractors in hand and of one's own file, and metrics with options, in `bench score`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bench
from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.module import ModuleExtractor
from bench.foreign import score_images
from bench.foreign_choices import metrics_in
from bench.foreign_statistics import write_statistics
from tests.foreign.places import as_npy

OWN = '''
from bench.features.base import Extractor


class Mine(Extractor):
    """Rows of pixels."""

    name, layers, version = "mine", {"features": 16}, "mine 1"

    def to(self, device):
        return self

    def __call__(self, images):
        return {"features": images.float().mean((2, 3))}
'''


class Blocks(nn.Module):
    """Means of 16 parts of the image."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 4)[:, 0].flatten(1) * self.gain


def test_a_torch_module_is_an_extractor_and_stays_as_it_is(sets):
    module = Blocks().train()
    frame = bench.score(*sets, metrics="kernel", extractor=module)
    assert list(frame.metric) == ["kid_Blocks"]
    assert any("Blocks reads images of 16 x 16 pixels" in warning for warning in frame.attrs["warnings"])
    assert module.training
    assert module.gain.requires_grad
    options = {"size": 16, "name": "mine", "mean": 0.5, "std": 0.5}
    named = bench.score(*sets, metrics="kernel", extractor=module, extractor_options=options)
    assert list(named.metric) == ["kid_mine"]
    assert float(named.value[0]) == pytest.approx(float(frame.value[0]))
    assert not any("reads images" in warning for warning in named.attrs["warnings"])


def test_an_extractor_in_hand_is_used(sets, tmp_path):
    extractor = ModuleExtractor(Blocks(), 16, name="blocks")
    scores = score_images(*sets, "frechet", extractor)
    assert scores.extractor is extractor
    assert scores.measurements[0].name == "fd_blocks"
    path, made, _ = write_statistics(sets[1], tmp_path / "s.npz", extractor)
    assert (made.provenance.extractor, made.n) == ("blocks", 60)
    (found,) = score_images(sets[0], path, "frechet", extractor).measurements
    assert float(found) == pytest.approx(float(scores.measurements[0]), rel=1e-9)


class Nameless(Extractor):
    def to(self, device):
        return self

    def __call__(self, images):
        return {}


@pytest.mark.parametrize(
    ("extractor", "options", "said"),
    [
        (3, None, "must be a name, a torch module or an instance of .*, not int"),
        (Blocks, None, "not the class Blocks"),
        (Nameless(), None, "Nameless has no 'name'"),
        (ModuleExtractor(Blocks(), 8), {"size": 8}, "takes no options"),
        (Blocks(), {"side": 8}, "has no option 'side'; did you mean 'size'"),
        (nn.Linear(3, 3), None, r"the module Linear cannot read images \(2, 3, 16, 16\)|expected \(B, d\)"),
        (nn.Conv2d(1, 2, 3), None, "the module Conv2d cannot read images .* extractor_options="),
    ],
)
def test_what_is_no_extractor_is_one_sentence(extractor, options, said, sets):
    with pytest.raises(BenchError, match=said) as error:
        bench.score(*sets, metrics="kernel", extractor=extractor, extractor_options=options)
    assert "\n" not in str(error.value)


def test_a_module_needs_a_size_where_images_have_none(sets):
    with pytest.raises(BenchError, match=r"are not squares of one size.*'size'"):
        bench.score(sets[0], sets[1][:, :10], metrics="kernel", extractor=Blocks())


def test_a_class_in_a_file_here_is_found(sets, tmp_path):
    (tmp_path / "own_ext_of_a_test.py").write_text(OWN)
    images = as_npy(sets[0], tmp_path)
    words = f"score {images} --reference {images} --metrics kernel,prdc:k=3 --extractor own_ext_of_a_test:Mine --json s.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench.cli", *words.split()],  # -P: the folder is not on the path by itself
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    names = [each["name"] for each in json.loads((tmp_path / "s.json").read_text())["measurements"]]
    assert names == ["kid_mine", "precision_k3_mine", "recall_k3_mine", "density_k3_mine", "coverage_k3_mine"]


def test_metrics_take_options_as_in_suites(sets):
    frames = [
        bench.score(*sets, metrics=metrics).set_index("metric").value
        for metrics in (["prdc:k=3"], [{"name": "prdc", "k": 3}], {"name": "prdc", "k": 3}, "prdc")
    ]
    assert (frames[0] == frames[1]).all()
    assert (frames[0] == frames[2]).all()
    assert not np.allclose(frames[0], frames[3])
    layered = bench.score(*sets, metrics=["kernel:layer=mid", "prdc:k=3:layer=final"])
    assert "kid_effnetlite0_mid" in set(layered.metric)


def test_metrics_on_the_command_line():
    assert metrics_in("prdc:k=3, kernel") == ["prdc:k=3", "kernel"]
    assert metrics_in("a:q=[1,2],b") == ["a:q=[1,2]", "b"]
    assert metrics_in(None) is None


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["prdc:kk=3"], "^metric 'prdc' has no option 'kk'; did you mean 'k'"),
        ([{"name": "prdc", "k": "x"}], "metric 'prdc': option 'k' is 'x', but"),
        ([{"k": 3}], "its 'name'"),
        ([3], "not 3"),
        ([], "no metric is named"),
        (["prdc", "prdc:k=3"], "'prdc' is asked for twice"),
        ("kid", "^unknown metric 'kid'; 'kid' is measured by 'kernel'$"),
        ("FID", "'FID' is measured by 'frechet'"),
        ("precision", "is measured by 'prdc'"),
        ("lpips", "is measured by 'lpips-diversity'"),
        ("inception_score", "is measured by 'inception-score'"),
        ("fid_infinity", "is measured by 'frechet-infinity'"),
        ("kernal", "did you mean 'kernel'"),
    ],
)
def test_metrics_that_cannot_be_are_one_sentence(metrics, said, sets):
    with pytest.raises(BenchError, match=said):
        bench.score(*sets, metrics=metrics)


def test_a_metric_named_twice_is_measured_once(sets):
    assert list(bench.score(*sets, metrics=["kernel", "kernel"]).metric) == ["kid_effnetlite0"]


def test_a_device_is_chosen_as_on_the_command_line(sets):
    assert len(bench.score(*sets, metrics="kernel", device="auto")) == 1
    with pytest.raises(BenchError, match="takes auto, cpu or cuda, got 'gpu'"):
        bench.score(*sets, metrics="kernel", device="gpu")
