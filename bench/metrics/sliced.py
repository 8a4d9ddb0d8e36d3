"""Sliced Wasserstein distance: the transport distance of one-dimensional projections, averaged over directions."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import seed_number, whole_number
from bench.metrics.layers import first_layer, named_after, with_setting
from bench.metrics.neighbours import feature_sets
from bench.metrics.order import shuffled
from bench.record import Measurement

BLOCKS = 10
SMALLEST_N = 50
CHUNK, ROWS = 32, 4096
"""Directions and rows projected at a time; memory is bounded by some times the first times the number of samples."""


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray, directions: int = 500, seed: int = 0) -> Measurement:
    """Sliced 2-Wasserstein distance between features ``(N, d)`` and ``(M, d)``; 0 is equal, lower is better. float64.

    ``sqrt(mean over unit directions u of W2^2(real u, fake u))``, each W2 exact for any N and M (quantile coupling). For
    N(0, I) against N(m, I) it is |m| / sqrt(d). Directions, at least 2, are drawn uniformly from ``seed``; the same for every model.

    ``value`` is the plain distance of the samples. The interval is for the distributions' distance: a delete-a-block jackknife
    over both sets removes the bias of its square and gives its error, and the spread over directions is added. None below 50
    samples. Raises BenchError for unusable features. "Sliced and Radon Wasserstein Barycenters of Measures", Bonneel et al. 2015.
    """
    directions = whole_number(directions, "directions", 2)
    real, fake = map(shuffled, feature_sets(real, fake))  # blocks of the jackknife must not be kinds of data
    n, m, d = len(real), len(fake), real.shape[1]
    rng = np.random.default_rng(seed_number(seed))
    squares = np.empty((directions, 1 + 2 * BLOCKS))
    offered = min(n, m) >= SMALLEST_N
    centre = real.mean(0, dtype=np.float64)
    for start in range(0, directions, CHUNK):
        axes = rng.normal(size=(min(CHUNK, directions - start), d))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        projected = [_projected(x, centre, axes) for x in (real, fake)]
        squares[start : start + CHUNK] = (
            _with_blocks_left_out(*projected) if offered else _squared(*map(_sort, projected))
        )
    square = float(squares[:, 0].mean())
    plain = Measurement(np.sqrt(square), name="sliced_w2", n=m, direction="lower")
    if not offered:
        return plain.replace(note=f"no interval: {min(n, m)} samples are below {SMALLEST_N}")
    low, high = _interval(square, squares)
    note = None if low > 0 else "indistinguishable from the reference"
    return plain.replace(low=low, high=high, interval="block jackknife of square, bias-corrected", note=note)


def sliced_wasserstein_gaussian(real: np.ndarray, fake: np.ndarray) -> Measurement:
    """A deterministic approximation of the sliced 2-Wasserstein distance from first and second moments; no interval.

    ``sqrt(|mean difference|^2 / d + (sqrt(m2(real)) - sqrt(m2(fake)))^2)`` with m2 the mean squared distance to the mean over d:
    exact in the limit of many weakly dependent features. "Fast Approximation of the Sliced-Wasserstein Distance Using
    Concentration of Random Projections", Nadjahi et al. 2021 (arXiv 2106.15427).
    """
    real, fake = feature_sets(real, fake)
    x, y = real.astype(np.float64), fake.astype(np.float64)
    d = x.shape[1]
    of_means = ((x.mean(0) - y.mean(0)) ** 2).sum() / d
    spreads = [np.sqrt(((z - z.mean(0)) ** 2).sum(1).mean() / d) for z in (x, y)]
    value = np.sqrt(of_means + (spreads[0] - spreads[1]) ** 2)
    note = "no interval: an approximation from moments"
    return Measurement(value, name="sliced_w2_gaussian", n=len(y), direction="lower", note=note)


def _projected(x: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """``(L, N)``: rows of x less the centre along L axes, some thousands of rows at a time."""
    blocks = [axes @ (x[i : i + ROWS].astype(np.float64) - centre).T for i in range(0, len(x), ROWS)]
    return np.hstack(blocks)


def _sort(projected: np.ndarray) -> np.ndarray:
    return np.sort(projected, axis=1)


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """W2^2 of each row of sorted ``(L, N)`` against that of sorted ``(L, M)`` -> ``(L, 1)``."""
    n, m = x.shape[1], y.shape[1]
    if n == m:
        return ((x - y) ** 2).mean(1, keepdims=True)
    # quantile functions are constant between the levels i/n and j/m; compare them on each of those steps
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1 / (n m), exact
    width = np.diff(levels, prepend=0) / (n * m)
    rank_x, rank_y = (levels - 1) // m, (levels - 1) // n
    return ((x[:, rank_x] - y[:, rank_y]) ** 2 @ width)[:, None]


def _with_blocks_left_out(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """W2^2 of each direction, then with each block of ``real`` left out, then of ``fake`` -> ``(L, 1 + 2 BLOCKS)``."""
    order_x, order_y = real.argsort(1), fake.argsort(1)
    x, y = np.take_along_axis(real, order_x, 1), np.take_along_axis(fake, order_y, 1)
    columns = [_squared(x, y)]
    columns += [_squared(_without(x, order_x, block), y) for block in range(BLOCKS)]
    columns += [_squared(x, _without(y, order_y, block)) for block in range(BLOCKS)]
    return np.hstack(columns)


def _without(values: np.ndarray, order: np.ndarray, block: int) -> np.ndarray:
    """Sorted rows without the samples whose number is ``block`` modulo BLOCKS."""
    return values[order % BLOCKS != block].reshape(len(values), -1)


def _interval(square: float, squares: np.ndarray) -> tuple[float, float]:
    means = squares.mean(0)
    bias = variance = 0.0
    for left_out in (means[1 : 1 + BLOCKS], means[1 + BLOCKS :]):
        pseudo_values = BLOCKS * square - (BLOCKS - 1) * left_out
        bias += square - pseudo_values.mean()
        variance += pseudo_values.var(ddof=1) / BLOCKS
    variance += squares[:, 0].var(ddof=1) / len(squares)
    half = float(stats.t.ppf(0.975, 2 * (BLOCKS - 1))) * np.sqrt(variance)
    low, high = (np.sqrt(max(0.0, square - bias + end)) for end in (-half, half))
    return float(low), float(high)


class SlicedWasserstein(Metric):
    """Sliced Wasserstein-2 distance between features of real and generated samples, on the widest layer."""

    paper = "Sliced and Radon Wasserstein Barycenters of Measures, Bonneel, Rabin, Peyre, Pfister 2015"
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, directions: int = 200) -> None:
        """layer: default the widest. directions: other than 200 they stand in the name (``sliced_w2_directions500_*``)."""
        self.layer, self.directions = layer, whole_number(directions, "directions", 2)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
        measured = sliced_wasserstein(real, fake, self.directions)
        name = with_setting(measured.name, "directions", self.directions, 200)
        return [measured.replace(name=named_after(name, evidence, layer))]
