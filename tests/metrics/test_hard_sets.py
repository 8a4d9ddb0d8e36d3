"""Neighbours of sets that rounding could mislead: dominating columns, far and tight clusters, outliers, ends of the range."""

import numpy as np
import pytest

from bench.metrics import clipped_density, cmmd, kernel_distance, prdc, realism_score
from bench.metrics.neighbours import nearest

SEED = int(np.random.randint(2**31))
K = 3


def dominated(rng, n, scale=4097):
    """One large column that comes first, noise in the last ones, as much of it as float32 loses beside the large one."""
    x = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * np.ones((1, 200))
    x[:, 0] *= scale
    x[:, -3:] += 6 * rng.standard_normal((n, 3))
    return x.astype(np.float32)


def clusters(rng, n, spread):
    centres = 1e4 * np.random.default_rng(SEED).standard_normal((5, 8))
    return centres[rng.integers(0, 5, n)] + spread * rng.standard_normal((n, 8))


def with_outlier(rng, n, size):
    x = rng.standard_normal((n, 8))
    x[rng.integers(n)] *= size
    return x


SETS = {
    "dominated": lambda rng, n: dominated(rng, n),
    "dominated in float64": lambda rng, n: dominated(rng, n, 9.5e7).astype(np.float64),
    "clusters": lambda rng, n: clusters(rng, n, 1e-2),
    "tight clusters": lambda rng, n: clusters(rng, n, 1e-6),
    "outlier": lambda rng, n: with_outlier(rng, n, 1e10),
    "outlier beyond float32": lambda rng, n: with_outlier(rng, n, 1e22),
    "large": lambda rng, n: 1e20 * rng.standard_normal((n, 8)),
    "small": lambda rng, n: 1e-25 * rng.standard_normal((n, 8)),
    "subnormal": lambda rng, n: (1e-38 * rng.standard_normal((n, 8))).astype(np.float32),
}


def to_all(x, y):
    return ((x[:, None].astype(np.float64) - y.astype(np.float64)) ** 2).sum(2)


def radii_of(x):
    own = to_all(x, x)
    np.fill_diagonal(own, np.inf)
    return np.sort(own, axis=1)[:, K - 1]


@pytest.fixture(params=sorted(SETS))
def pair(request):
    rng = np.random.default_rng(SEED)
    return SETS[request.param](rng, 120), SETS[request.param](rng, 90)


def test_counts(pair):
    real, fake = pair
    across = to_all(real, fake)
    in_real, in_fake = across < radii_of(real)[:, None], across < radii_of(fake)
    due = in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum() / (K * len(fake)), in_real.any(1).mean()
    assert [float(value) for value in prdc(real, fake, K, interval=False)] == pytest.approx(due, rel=1e-12)


def test_nearest(pair):
    queries, points = pair
    squared = to_all(queries, points)
    distances, indices = nearest(queries, points, K)
    assert distances == pytest.approx(np.sqrt(np.sort(squared, axis=1)[:, :K]), rel=1e-12)
    assert np.take_along_axis(squared, indices, 1) == pytest.approx(distances**2, rel=1e-12)
    assert nearest(points, points, K, skip_self=True)[0][:, -1] ** 2 == pytest.approx(radii_of(points), rel=1e-12)


def test_realism(pair):
    real, fake = pair
    radii = radii_of(real)
    kept = radii <= np.median(radii)
    due = np.sqrt((radii[kept] / to_all(fake, real[kept])).max(1))
    assert realism_score(real, fake, K) == pytest.approx(due, rel=1e-12)


def test_clipped_density(pair):
    real, fake = pair
    radii = radii_of(real)
    radii = np.minimum(radii, np.median(radii))
    own = to_all(real, real) <= radii[:, None]
    np.fill_diagonal(own, False)
    of_real = np.minimum(own.sum(0) / K, 1).mean()
    of_fake = np.minimum((to_all(fake, real) <= radii).sum(1) / K, 1).mean()
    assert float(clipped_density(real, fake, K)) == pytest.approx(min(1, of_fake / of_real), rel=1e-12)


@pytest.mark.parametrize("mean", [0, 10, 100, 1e4])
def test_kernel_distances_of_features_far_from_the_origin(mean):
    """float32 features give what the same numbers in float64 give, the error below a thousandth of the interval."""
    rng = np.random.default_rng(SEED)
    sets = [(rng.standard_normal((600, 5)) + mean).astype(np.float32) for _ in range(2)]
    for measure in (kernel_distance, lambda x, y: cmmd(x, y, unbiased=True)):
        found, due = measure(*sets), measure(*(z.astype(np.float64) for z in sets))
        assert abs(found - due) < 1e-3 * (due.high - due.low)
        assert np.isfinite([found.low, found.high]).all()


def test_kernel_distance_with_diverged_samples():
    rng = np.random.default_rng(SEED)
    real, fake = (rng.standard_normal((300, 8)).astype(np.float32) for _ in range(2))
    fake[:2] = 3e6
    found, due = kernel_distance(real, fake), kernel_distance(real.astype(np.float64), fake.astype(np.float64))
    assert float(found) == pytest.approx(float(due), rel=1e-9)
    assert [found.low, found.high] == pytest.approx([due.low, due.high], rel=1e-9)
    huge = kernel_distance(real * 1e20, fake.astype(np.float64) * 1e30)
    assert huge.low is None or np.isfinite([huge.low, huge.high]).all()
