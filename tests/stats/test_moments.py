"""One check of means and covariances, behind files and behind plain arrays."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.features.reference import ReferenceStatistics
from bench.metrics import frechet_distance_from_stats
from bench.stats.moments import checked_moments


def from_arrays(mu, sigma, folder):
    return frechet_distance_from_stats(mu, sigma, mu, sigma)


def from_file(mu, sigma, folder):
    np.savez(folder / "s.npz", mu=mu, sigma=sigma)
    return ReferenceStatistics.load(folder / "s.npz")


def moments(rng, d=6):
    rows = rng.normal(size=(50, d)) * rng.uniform(0.1, 30, d)
    return rows.mean(0), np.cov(rows, rowvar=False)


@pytest.fixture
def rng():
    return np.random.default_rng()


@pytest.mark.parametrize("check", [from_arrays, from_file])
def test_rounding_to_float32_is_accepted_and_evened_out(check, rng, tmp_path):
    mu, sigma = moments(rng)
    check(mu.astype(np.float32), sigma.astype(np.float32), tmp_path)
    lopsided = sigma.copy()
    lopsided[0, 1] *= 1 + 5e-5
    check(mu, lopsided, tmp_path)
    _, evened = checked_moments(mu, lopsided, "they")
    assert np.array_equal(evened, evened.T)
    assert evened[0, 1] == pytest.approx(sigma[0, 1] * (1 + 2.5e-5), rel=1e-12)


@pytest.mark.parametrize("check", [from_arrays, from_file])
def test_both_ways_refuse_the_same(check, rng, tmp_path):
    mu, sigma = moments(rng)
    lopsided, negative, beyond = sigma.copy(), sigma.copy(), sigma.copy()
    largest = np.unravel_index(np.argmax(np.abs(np.triu(sigma, 1))), sigma.shape)
    lopsided[largest] += 1e-2 * np.abs(sigma).max()
    negative[2, 2] *= -1
    beyond[0, 1] = beyond[1, 0] = 1.01 * np.sqrt(sigma[0, 0] * sigma[1, 1]) + 1e-3 * sigma.max()
    for wrong, said in ((lopsided, "not symmetric"), (negative, "negative variance"), (beyond, "beyond 1")):
        with pytest.raises(BenchError, match=said):
            check(mu, wrong, tmp_path)


def test_numbers_pass_through_unchanged(rng):
    mu, sigma = moments(rng)
    found = checked_moments(mu, sigma, "they")
    assert np.array_equal(found[0], mu)
    assert np.array_equal(found[1], (sigma + sigma.T) / 2)
