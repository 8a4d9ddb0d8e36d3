import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.classes import train_classifier
from bench.metrics.modes import Modes, factor_coverage, mixture_modes, mode_kl, stacked_modes
from bench.space import VectorSpace


class Ring:
    """Eight Gaussians on a circle: a truth with centres and a standard deviation."""

    def __init__(self, radius=2.0, std=0.02):
        angle = 2 * math.pi * np.arange(8) / 8
        self.centers, self.std = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), std

    def sample(self, n, rng, modes=8, std=None):
        return self.centers[rng.integers(0, modes, n)] + (std or self.std) * rng.normal(size=(n, 2))


@pytest.fixture(scope="module")
def digits():
    loaded = load_digits()
    return (loaded.images * 255 / 16).round().astype(np.uint8)[..., None], loaded.target


def by_name(found):
    return {m.name: m for m in found}


def test_the_truth_itself_captures_all():
    ring = Ring()
    found = by_name(mixture_modes(ring.sample(20_000, np.random.default_rng(0)), ring.centers, ring.std))
    assert found["modes_captured"] == 8
    assert found["high_quality"].low <= 1 - math.exp(-4.5) <= found["high_quality"].high
    assert found["mode_kl"].low == 0
    assert found["mode_kl"].high < 1e-3


@pytest.mark.parametrize("modes", [1, 2, 5])
def test_dropped_modes_are_counted(modes):
    ring = Ring()
    found = by_name(mixture_modes(ring.sample(4000, np.random.default_rng(1), modes), ring.centers, ring.std))
    assert found["modes_captured"] == modes
    assert float(found["mode_kl"]) == pytest.approx(math.log(8 / modes), abs=0.01)


def test_blurred_samples_are_of_lower_quality():
    ring, rng = Ring(), np.random.default_rng(2)
    shares = [
        float(mixture_modes(ring.sample(3000, rng, std=s * ring.std), ring.centers, ring.std)[1]) for s in (1, 2, 5)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == pytest.approx(1 - math.exp(-4.5 / 4), abs=0.03)


def test_hopeless_samples_are_no_error():
    ring = Ring()
    found = by_name(mixture_modes(np.full((50, 2), np.nan), ring.centers, ring.std))
    assert found["modes_captured"] == 0
    assert found["high_quality"] == 0
    assert math.isnan(found["mode_kl"])
    with pytest.raises(BenchError, match="space of the centres"):
        mixture_modes(np.zeros((5, 3)), ring.centers, ring.std)


@pytest.mark.parametrize(
    ("samples", "centers", "std"),
    [
        (np.zeros((5, 2)), np.zeros((0, 2)), 1.0),
        (np.zeros((5, 0)), np.zeros((3, 0)), 1.0),
        (np.full((5, 2), "a"), np.zeros((3, 2)), 1.0),
        (np.zeros((5, 2)), np.zeros((3, 2)) + 1j, 1.0),
        (np.zeros((5, 2)), np.zeros((3, 2)), 0.0),
        (np.zeros((5, 2)), np.zeros((3, 2)), float("nan")),
        (np.zeros((5, 2)), np.zeros((3, 2)), "wide"),
    ],
)
def test_what_is_no_mixture_is_refused(samples, centers, std):
    with pytest.raises(BenchError):
        mixture_modes(samples, centers, std)


@pytest.mark.parametrize(
    "given", [np.full(6, 12), np.full(6, -1), np.zeros(6), np.zeros(5, np.int64), np.zeros((6, 1), np.int64)]
)
def test_a_classifier_that_gives_no_digits_is_refused(given):
    with pytest.raises(BenchError, match="digits that classify gave"):
        stacked_modes(np.zeros((6, 8, 8, 3), np.uint8), lambda images: given)


@pytest.mark.parametrize("wrong", [[-1, 0, 1], [0.0, 1.0, 2.0], [0, 1, 4], [[0], [1], [2]], ["a", "b", "c"]])
def test_levels_that_are_none_are_refused(wrong):
    right = np.array([0, 1, 3])
    for fake, real in ((np.array(wrong), right), (right, np.array(wrong))):
        with pytest.raises(BenchError, match="levels of 'shape' of the"):
            factor_coverage({"shape": fake}, {"shape": real}, {"shape": 4})
    with pytest.raises(BenchError, match="number of levels"):
        factor_coverage({"shape": right}, {"shape": right}, {"shape": 4.0})


def test_mode_kl_closed_forms_and_coverage():
    assert float(mode_kl(np.array([10, 0, 0, 0]))) == pytest.approx(math.log(4))
    assert float(mode_kl(np.array([5, 5, 5, 5]))) == pytest.approx(0)
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.full(25, 3.0))
    truth = float((p * np.log(25 * p)).sum())
    drawn = [mode_kl(rng.multinomial(400, p)) for _ in range(200)]
    assert 0.90 <= np.mean([m.low <= truth <= m.high for m in drawn]) <= 0.99
    assert np.mean([float(m) > truth for m in drawn]) > 0.6  # the plain value is biased upwards
    assert mode_kl(rng.multinomial(60, p)).low is None


def test_stacked_digits_are_counted_by_a_classifier(digits):
    images, labels = digits
    rng = np.random.default_rng(4)
    classify = train_classifier(images[:1200], labels[:1200], images[1200:], labels[1200:])
    assert (classify(images[1200:]) == labels[1200:]).mean() > 0.9

    def stack(kinds, n=2000):  # n images whose three digits come from the first `kinds` classes
        pool = np.flatnonzero((labels < kinds) & (np.arange(len(labels)) < 1200))
        return np.concatenate([images[rng.choice(pool, n)] for _ in range(3)], axis=3)

    few, many = (by_name(stacked_modes(stack(kinds), classify)) for kinds in (2, 10))
    assert 8 <= few["modes_captured"] <= 60  # eight, and a few misread
    assert many["modes_captured"] > 700
    assert float(few["mode_kl"]) == pytest.approx(math.log(1000 / 8), abs=0.3)
    assert many["mode_kl"] < few["mode_kl"]


def test_factor_coverage():
    rng = np.random.default_rng(5)
    levels = {"shape": 4, "x": 16}
    real = {"shape": rng.integers(0, 4, 5000), "x": rng.integers(0, 16, 5000)}
    fake = {"shape": rng.integers(0, 3, 5000), "x": rng.integers(0, 16, 5000)}
    found = by_name(factor_coverage(fake, real, levels))
    assert found["factor_coverage_shape"] == 0.75
    assert found["factor_coverage_x"] == 1
    assert float(found["factor_kl_shape"]) == pytest.approx(math.log(4 / 3), abs=0.02)
    assert found["factor_kl_x"].low == 0
    assert found["factor_kl_shape"].low > 0.25


def test_the_metric_reads_the_truth():
    ring = Ring()
    x = ring.sample(500, np.random.default_rng(6)).astype(np.float32)
    data = Data("ring", VectorSpace(2), x, x, truth=ring)
    evidence = Evidence(data=data, samples=x[:300], features=lambda split, layer: np.zeros((0, 0)))
    found = Modes().measure(evidence)
    assert [m.name for m in found] == ["modes_captured", "high_quality", "mode_kl"]
    assert found[0].n == 300


def test_one_mode_or_one_level_is_all_there_is():
    """A histogram of one entry agrees with every other: no divergence."""
    found = {m.name: m for m in mixture_modes(np.random.default_rng(0).normal(size=(50, 2)), np.zeros((1, 2)), 1.0)}
    assert float(found["mode_kl"]) == 0
    assert found["mode_kl"].note is None or "training features" not in found["mode_kl"].note
