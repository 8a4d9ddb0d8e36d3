"""The known densities: against scipy, by numerical integration and by Monte Carlo."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bench.data.mixtures import GaussianMixture, Grid25, Ring8, grid25, ring8


@pytest.fixture(params=[ring8, grid25], ids=["ring8", "grid25"])
def truth(request):
    return request.param()


@pytest.fixture
def overlapping(rng):
    """Components so close that no formula for separate ones holds."""
    return GaussianMixture(rng.normal(size=(5, 2)), std=0.7)


def test_log_prob_agrees_with_scipy(truth, rng):
    x = truth.sample(500, rng)[0] + rng.normal(scale=truth.std, size=(500, 2))
    cov = truth.std**2 * np.eye(2)
    density = np.mean([multivariate_normal(center, cov).pdf(x) for center in truth.centers], axis=0)
    np.testing.assert_allclose(truth.log_prob(x), np.log(density), rtol=1e-10)


def test_log_prob_far_away_is_finite(truth):
    assert np.isfinite(truth.log_prob(np.array([[1e3, -1e3]]))).all()


def test_density_integrates_to_one(truth):
    """A fine grid around each component (they are many standard deviations apart), summed."""
    steps = np.linspace(-8, 8, 81)
    cell = (steps[1] - steps[0]) ** 2 * truth.std**2
    offsets = truth.std * np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    total = sum(np.exp(truth.log_prob(center + offsets)).sum() * cell for center in truth.centers)
    assert total == pytest.approx(1, abs=1e-10)


def test_overlapping_density_integrates_to_one(overlapping):
    axis = np.linspace(-8, 8, 801)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert np.exp(overlapping.log_prob(points)).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-9)


def test_entropy_of_separate_components_is_the_closed_form(truth):
    expected = np.log(len(truth.centers)) + 1 + np.log(2 * np.pi * truth.std**2)
    assert truth.entropy == pytest.approx(expected, abs=1e-10)


def test_entropy_of_overlapping_components_agrees_with_the_trapezoidal_rule(overlapping):
    axis = np.linspace(-10, 10, 1001)
    log_p = overlapping.log_prob(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    expected = -(np.exp(log_p) * log_p).sum() * (axis[1] - axis[0]) ** 2
    assert overlapping.entropy == pytest.approx(expected, abs=1e-6)


def test_entropy_agrees_with_monte_carlo(truth, rng):
    nll = -truth.log_prob(truth.sample(100_000, rng)[0])
    assert nll.mean() == pytest.approx(truth.entropy, abs=5 * nll.std() / np.sqrt(len(nll)))


@pytest.mark.parametrize(("kind", "modes"), [(Ring8, 8), (Grid25, 25)])
def test_data_come_from_the_density(kind, modes):
    data = kind().load()
    assert data.train.shape == (20_000, 2)
    assert data.test.shape == (10_000, 2)
    assert data.train.dtype == np.float32
    assert data.train_labels.dtype == np.int64
    points, truth = np.concatenate([data.train, data.test]), data.truth
    np.testing.assert_allclose(points.std(0), 1, atol=0.02)
    np.testing.assert_allclose(points.mean(0), 0, atol=0.03)
    nearest, distance = truth.nearest(points)
    np.testing.assert_array_equal(nearest, np.concatenate([data.train_labels, data.test_labels]))
    assert np.square(distance).mean() == pytest.approx(2, abs=0.06)  # chi-squared with two degrees of freedom
    counts = np.bincount(nearest, minlength=modes)
    expected = len(points) / modes
    assert np.square(counts - expected).sum() / expected < 60  # chi-squared, at most 24 degrees of freedom
    assert len(data.classes) == modes


def test_seed_changes_the_draw_and_nothing_else_does():
    assert Ring8(seed=1).load().digest() != Ring8().load().digest()
    assert Ring8().load().digest() == Ring8().load().digest()
