import numpy as np
import pytest

from bench.coverage import pairs as validate
from bench.coverage.pairs import (
    NOISES,
    empirical,
    frechet_rows,
    inception_rows,
    linear_pair,
    other_rows,
)
from bench.metrics.frechet import frechet_distance_from_stats

REPETITIONS = 40
LOWEST = 0.90


def holds(row):
    """A true coverage of 90 % would show less than this once in 2000 tries."""
    margin = 3.3 * np.sqrt(LOWEST * (1 - LOWEST) / row.repetitions)
    return row.coverage is None or LOWEST - margin <= row.coverage


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_noises_have_mean_zero_and_variance_one(noise):
    values = NOISES[noise](np.random.default_rng(0), 200_000, 2)
    np.testing.assert_allclose(values.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(values, rowvar=False), np.eye(2), atol=0.04)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("noise", sorted(NOISES))
def test_intervals_of_the_frechet_distance_hold(noise, equal):
    pair = linear_pair(noise, 10, equal)
    known = frechet_distance_from_stats(pair.real.mean, pair.real.covariance, pair.fake.mean, pair.fake.covariance)
    assert pair.distance == float(known)
    assert (pair.distance < 1e-12) == equal
    raw, corrected, extrapolated = frechet_rows(pair, 300, 200, REPETITIONS, seed=1)
    for row in (raw, corrected, extrapolated):
        assert row.offered == 1
        assert holds(row), row
    assert abs(corrected.bias) < corrected.sd / 2
    assert raw.target == "mean at n"
    assert corrected.half_width < 4 * corrected.sd


def test_the_raw_distance_would_not_hold_the_truth():
    """Why there are two values: around the raw one an interval for the distance is nearly always wrong."""
    pair = linear_pair("normal", 64, equal=False)
    rng = np.random.default_rng(2)
    found = [validate.frechet_distances(pair.real.draw(rng, 200), pair.fake.draw(rng, 200)) for _ in range(30)]
    assert sum(raw.low <= pair.distance <= raw.high for raw, _ in found) <= 2
    assert sum(corrected.low <= pair.distance <= corrected.high for _, corrected in found) >= 24


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_intervals_of_the_other_metrics_hold(noise):
    rows = other_rows(linear_pair(noise, 16, equal=False), 300, 250, REPETITIONS, seed=3)
    assert [row.metric for row in rows] == ["kid", "cmmd_unbiased", "precision", "recall", "density", "coverage"]
    for row in rows:
        assert row.offered == 1
        assert holds(row), row
        assert row.half_width < 5 * row.sd


def test_intervals_of_the_inception_score_hold():
    for row in inception_rows(400, 4, REPETITIONS, seed=4):
        assert holds(row), row


def test_a_population_of_given_features_has_their_moments():
    features = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    population = empirical(features)
    drawn = population.draw(np.random.default_rng(1), 40_000)
    np.testing.assert_allclose(drawn.mean(0), population.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), population.covariance, atol=0.05)
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in features.astype(float)}
