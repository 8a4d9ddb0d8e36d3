"""FID-infinity: the Fréchet distance extrapolated to infinitely many generated samples.

"Effectively Unbiased FID and Inception Score and Where to Find Them", Chong and Forsyth 2020 (arXiv 1911.07023).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from bench.errors import BenchError
from bench.metrics.frechet import SMALLEST_RATIO, FrechetTo
from bench.metrics.frechet_interval import common_basis, deletions, pair_mean_square
from bench.metrics.inputs import Features, feature_pair, seed_number, whole_number
from bench.metrics.moments import Moments
from bench.metrics.order import order_of
from bench.record import Measurement


def fid_infinity(real: Features, fake: Features, seed: int = 0, points: int = 15) -> Measurement:
    """Fréchet distance ``fd_infinity`` at M = infinity, from a line in 1/M through ``points`` subsets of the fakes ``(M, d)``.

    As published: subset sizes are equally spaced up to M, from M/10 (from 2 d where that is more, but at most from M/2); the
    real set is used whole each time and stays as it is, so the bias of a small *real* set remains
    (``frechet_distance_corrected`` removes both). Here the subsets are nested, cut from one order that the seed and the rows themselves
    decide (not how they came), so that each row is summed once. The interval (jackknife) takes the real set as given; none where the smallest subset or the real set has
    fewer than 1.2 d samples, or than 100 of fewer than 8 dimensions. n: M. Raises BenchError for unusable features or fewer than 4 fakes a point.

    Lower is better.
    """
    reference, samples = feature_pair(real, fake)
    m, d = samples.shape
    whole_number(points, "points")
    if points < 2 or m < 4 * points:
        raise BenchError(
            f"{points} points of a line need at least 2 points and {4 * max(points, 2)} fakes, but there are {m}; give more samples"
        )
    sizes = subset_sizes(m, d, points)
    order = order_of(samples, seed=seed_number(seed))
    distance_to = FrechetTo.features(reference)
    moments, distances, start = Moments(d), [], 0
    for size in sizes:
        moments.update(samples[order[start:size]])
        distances.append(distance_to(moments.mean, moments.covariance()))
        start = size
    weights = intercept_weights(1 / sizes)
    measured = Measurement(float(weights @ distances), name="fd_infinity", n=m, direction="lower")
    few, needed = min(sizes[0], len(reference)), _smallest_subset(d)
    if few < needed:
        return measured.replace(note=f"no interval: {few} samples are too few for {d} dimensions ({needed} are needed)")
    try:
        variance = _variance(reference, samples, moments, weights, sizes)
    except np.linalg.LinAlgError:
        return measured.replace(note="no interval: a covariance is singular (constant or repeated features)")
    half = float(stats.norm.ppf(0.975)) * np.sqrt(variance)
    return measured.replace(
        low=measured - half, high=measured + half, interval="jackknife, the real set taken as given"
    )


def subset_sizes(m: int, d: int, points: int) -> np.ndarray:
    smallest = max(m // 10, min(2 * d, m // 2), 2)
    return np.linspace(smallest, m, points).round().astype(int)


def _smallest_subset(d: int) -> int:
    """From which smallest subset, and real set, on the line is one: 1.2 d, and 100 of few dimensions."""
    return math.ceil(SMALLEST_RATIO * d) if d >= 8 else 100


def intercept_weights(x: np.ndarray) -> np.ndarray:
    """The least-squares intercept of a line through values at ``x`` is the sum of these weights times the values."""
    centred = x - x.mean()
    return 1 / len(x) - x.mean() * centred / (centred @ centred)


def _variance(real: np.ndarray, fake: np.ndarray, on_fake: Moments, weights: np.ndarray, sizes: np.ndarray) -> float:
    """Variance of the intercept over draws of the fakes: of single rows, and of pairs of rows.

    A row weighs w_s / size_s in every subset s that holds it, a pair w_s / size_s^2; subsets are nested.
    """
    on_real = Moments.of(real)
    sigma_r, sigma_f = on_real.covariance(), on_fake.covariance()
    basis = common_basis(sigma_r, sigma_f)
    trace = float(np.trace(sigma_f))
    without = deletions(fake, on_fake.mean, on_fake.mean - on_real.mean, trace, basis.for_fake, basis.s)
    rows = np.diff(sizes, prepend=0)
    pairs = np.diff(sizes * (sizes - 1) / 2, prepend=0)
    row_weights = np.cumsum((weights / sizes)[::-1])[::-1]  # of what is new in each subset
    pair_weights = np.cumsum((weights / sizes**2)[::-1])[::-1]
    of_pairs = pair_mean_square(without.fourth, without.fourth, sigma_f, sigma_f, basis.s)
    of_rows = float(without.influence.var(ddof=1))
    return float(of_rows * (rows * row_weights**2).sum() + of_pairs * (pairs * pair_weights**2).sum())
