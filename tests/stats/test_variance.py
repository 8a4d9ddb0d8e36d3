"""Training-seed and sampling-seed variance, recovered from simulated scores."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.stats.variance import variance_components


def simulate(rng, seeds, sets, training, sampling):
    return 5 + rng.normal(0, training, (seeds, 1)) + rng.normal(0, sampling, (seeds, sets))


@pytest.mark.parametrize(("training", "sampling"), [(1.0, 0.2), (0.2, 1.0), (0.0, 1.0)])
def test_components_are_recovered(training, sampling):
    found = variance_components(simulate(np.random.default_rng(0), 3000, 4, training, sampling))
    assert found.training.value == pytest.approx(training, abs=0.06)
    assert found.sampling.value == pytest.approx(sampling, rel=0.05)
    assert found.finite is None


def test_equals_the_mean_squares_of_an_anova_table():
    x = np.random.default_rng().normal(size=(5, 3))
    ms_between = 3 * ((x.mean(axis=1) - x.mean()) ** 2).sum() / 4
    ms_within = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum() / 10
    found = variance_components(x)
    assert found.sampling.value**2 == pytest.approx(ms_within)
    assert found.training.value**2 == pytest.approx(max(0, (ms_between - ms_within) / 3))


def test_interval_covers_although_sample_sets_of_one_model_are_not_independent():
    rng = np.random.default_rng(1)
    hits = naive = 0
    for _ in range(1000):
        x = simulate(rng, 5, 8, 1.0, 0.3)
        score = variance_components(x).score
        hits += score.low <= 5 <= score.high
        half = 1.96 * x.std(ddof=1) / x.size**0.5
        naive += abs(x.mean() - 5) <= half
    assert hits / 1000 == pytest.approx(0.95, abs=0.03)
    assert naive / 1000 < 0.7  # all 40 scores taken as independent


@pytest.mark.parametrize(("training", "sampling"), [(1.0, 0.3), (0.3, 1.0), (0.0, 1.0)])
def test_intervals_of_both_deviations_cover(training, sampling):
    """Exact for sampling; at least 95 % for training."""
    rng, runs = np.random.default_rng(), 2000
    hits = np.zeros(2)
    for _ in range(runs):
        found = variance_components(simulate(rng, 4, 3, training, sampling))
        hits += [
            found.training.low <= training <= found.training.high,
            found.sampling.low <= sampling <= found.sampling.high,
        ]
    five_errors = 5 * (0.95 * 0.05 / runs) ** 0.5
    assert hits[1] / runs == pytest.approx(0.95, abs=five_errors)
    assert 0.95 - five_errors <= hits[0] / runs


def test_finite_sample_error_is_reported_beside():
    x = simulate(np.random.default_rng(2), 4, 3, 1, 1)
    assert variance_components(x, np.full((4, 3), 0.5)).finite == pytest.approx(0.5)
    with pytest.raises(BenchError, match="one standard error a score"):
        variance_components(x, np.ones(4))
    with pytest.raises(BenchError, match="2 x 2"):
        variance_components(x[:, :1])
