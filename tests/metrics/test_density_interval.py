"""What density's interval is made of: neighbourhoods and counts by their definitions, the jackknife by leaving out, its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from bench.metrics import prdc
from bench.metrics.density_interval import DensityCounts
from bench.metrics.manifold import Points, close_pairs, neighbourhoods, squared_radii


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(np.random.randint(2**31))


@pytest.mark.parametrize(("offset", "kind"), [(0, np.float64), (0, np.float32), (1e5, np.float64)])
def test_neighbourhoods_are_those_of_scikit_learn(rng, offset, kind):
    points = (rng.standard_normal((300, 6)) + offset).astype(kind)
    radii, outer, fellows = neighbourhoods(points, 4)
    distances, indices = NearestNeighbors(n_neighbors=6).fit(points.astype(np.float64)).kneighbors()
    np.testing.assert_allclose(radii, distances[:, 3] ** 2, rtol=1e-9)
    np.testing.assert_allclose(outer, distances[:, 4] ** 2, rtol=1e-9)
    assert np.array_equal(np.sort(fellows, 1), np.sort(indices[:, :4], 1))
    assert np.array_equal(radii, squared_radii(points, 4))


def test_neighbourhoods_closer_than_rounding(rng):
    points = 100 * rng.standard_normal((3, 5))[rng.integers(0, 3, 90)] + 1e-9 * rng.standard_normal((90, 5))
    squared = cdist(points, points) ** 2
    np.fill_diagonal(squared, np.inf)
    radii, outer, fellows = neighbourhoods(points, 3)
    np.testing.assert_allclose(radii, np.sort(squared, 1)[:, 2], rtol=1e-9)
    np.testing.assert_allclose(outer, np.sort(squared, 1)[:, 3], rtol=1e-9)
    assert (np.take_along_axis(squared, fellows, 1) <= outer[:, None]).all()


def counted(real: np.ndarray, fake: np.ndarray, k: int) -> DensityCounts:
    counts = DensityCounts(real, k, np.arange(len(real)), np.arange(len(fake)))
    fakes = Points(fake)
    for pairs in close_pairs(real, fakes, counts.radii, squared_radii(fakes, k), False, counts.outer):
        counts.add(pairs)
    return counts


def test_a_real_example_contributes_what_density_loses_without_it(rng):
    real, fake, k = rng.standard_normal((60, 3)), 1.2 * rng.standard_normal((45, 3)), 4
    halves = counted(real, fake, k).real_contributions()
    for half, part in zip(halves, (fake[::2], fake[1::2])):
        whole = float(prdc(real, part, k).density)
        without = [float(prdc(np.delete(real, i, 0), part, k).density) for i in range(60)]
        due = 59 * (whole - np.array(without))
        np.testing.assert_allclose(half - half.mean(), due - due.mean(), atol=1e-9)


def test_balls_agree_between_halves_where_a_few_examples_are_in_most_of_them(rng):
    few, many = (counted(*rng.standard_normal((2, 400, d)), 5).jackknife_share() for d in (1, 64))
    assert few < 0.5
    assert many == 1


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n"), [(2, 200), (16, 300), (64, 200), (256, 200)])
@pytest.mark.parametrize("shape", ["normal", "exponential"])
def test_the_interval_of_density_covers(rng, d, n, shape):
    scale = np.arange(1, d + 1) ** -0.4
    found = [prdc(*(getattr(rng, shape)(size=(n, d)) * scale * s for s in (1.0, 1.05))).density for _ in range(120)]
    mean = np.mean([float(each) for each in found])
    held = np.mean([each.low <= mean <= each.high for each in found])
    assert held > 0.95 - 4.5 * np.sqrt(0.05 * 0.95 / 120)
    spread = np.std([float(each) for each in found])
    width = np.mean([each.high - each.low for each in found]) / 2
    assert width < 1.96 * spread * 1.7, "not much wider than need be"
