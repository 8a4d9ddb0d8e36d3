"""The pytest plug-in in a user's own project: store a baseline, hold, catch a worse model, name what is missing."""

import pytest

from bench.errors import BenchError
from bench.pytest_plugin import BenchTrial, Trials

from .gate.records import trained

pytest_plugins = ["pytester"]

TEST = """
import torch
from bench import GenerativeModel

class Blurry(GenerativeModel):
    '''Noise around a grey level that training learns.'''
    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.level = torch.nn.Parameter(torch.zeros(space.shape))
    def train_step(self, batch, progress):
        self.level.data += 0.2 * (batch.x.mean(0) - self.level.data)
        return {"loss": (batch.x - self.level).square().mean().detach()}
    def sample(self, n, generator, **options):
        return (self.level + NOISE * generator.randn(*self.space.shape)).clamp(-1, 1)

def test_blurry(bench_trial):
    trials = bench_trial(Blurry, budget="20 steps", seeds=SEEDS, samples=40)
    assert trials["kid_effnetlite0"].n == len(SEEDS)
    assert len(trials.frame()) > 0
    trials.assert_not_worse("kid_effnetlite0", margin="2%")
"""


@pytest.fixture
def project(pytester, tmp_path):
    import bench.gate.judge  # noqa: F401

    # pytester forgets the modules that a run imports, and numpy cannot be imported twice: have them all before.
    BenchTrial(tmp_path, tmp_path, False)("noise", seeds=[0], samples=40).frame()

    def run(*options, noise="0.02", seeds="(0, 1, 2)"):
        pytester.makepyfile(test_mine=TEST.replace("NOISE", noise).replace("SEEDS", seeds))
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    return run


def test_store_hold_and_catch(project, pytester):
    missing = project()
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*no baseline in *run pytest --bench-update*"])
    project("--bench-update").assert_outcomes(passed=1)
    assert list((pytester.path / "tests" / "bench-baseline").glob("*/pytest/records.jsonl"))
    project().assert_outcomes(passed=1)
    worse = project(noise="3.0")
    worse.assert_outcomes(failed=1)
    worse.stdout.fnmatch_lines(["*digits/Blurry kid_effnetlite0: worse*adjusted p *"])
    few = project(seeds="(0, 1)")
    few.assert_outcomes(failed=1)
    few.stdout.fnmatch_lines(["*missing, head lacks seed 2 of base*"])


def test_options_are_in_the_help(pytester):
    pytester.runpytest_subprocess("--help").stdout.fnmatch_lines(["*--bench-baseline=DIR*", "*--bench-update*"])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"budget": "8steps"}, "budget reads '200 steps'"),
        ({"budget": "x steps"}, "got 'x steps'"),
        ({"budget": "8 stepz"}, "got '8 stepz'"),
        ({"seeds": []}, "seeds: "),
        ({"samples": 0}, "samples: .* got 0"),
        ({"model": "vea"}, "did you mean 'vae'"),
        ({"metrics": "kernal"}, "did you mean 'kernel'"),
    ],
)
def test_wrong_arguments_are_one_sentence(how, says, tmp_path):
    with pytest.raises(BenchError, match=says) as raised:
        BenchTrial(tmp_path, tmp_path, False)(**{"model": "vae", "budget": "2 steps", **how})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("metrics", "how", "says"),
    [
        (("kid_effnetlite",), {}, "has measured 'kid_effnetlite'; did you mean 'kid_effnetlite0'"),
        ((), {}, "name at least one metric"),
        (("parameters",), {}, "'parameters' has no better direction"),
        (("kid_effnetlite0",), {"margin": "ten"}, "margin"),
        (("kid_effnetlite0",), {"alpha": 2.0}, "alpha"),
    ],
)
def test_wrong_names_and_margins_are_one_sentence_and_store_nothing(metrics, how, says, tmp_path):
    trials = Trials(
        tuple(trained("vae", "kid_effnetlite0", [0.2, 0.21])), BenchTrial(tmp_path / "base", tmp_path, True)
    )
    if metrics == ("parameters",):
        trials = Trials(tuple(trained("vae", "parameters", [5.0])), trials.fixture)
    with pytest.raises(BenchError, match=says) as raised:
        trials.assert_not_worse(*metrics, **how)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "base").exists()
