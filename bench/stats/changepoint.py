"""Where a series of measurements over commits changed its level. A warning for people, never a reason to fail a change.

E-divisive (Matteson & James, "A nonparametric approach for multiple change point analysis of multivariate data", 2014,
arXiv 1306.4933): split where the energy distance between the two sides is largest, if a permutation test says that the split
is no accident; then look again on both sides. Pure functions, no I/O.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import BenchError
from bench.stats.intervals import finite_values

MINIMUM_SEGMENT = 3
"""Fewer points than this between two change points are never split off: a single outlier is no change of level."""


class ChangePoint(NamedTuple):
    """at: index of the first point of the new level. before, after: medians of the levels. p: permutation p-value of the split."""

    at: int
    before: float
    after: float
    p: float

    @property
    def change(self) -> float:
        """``after / before - 1``; infinite where the level was zero and no longer is."""
        if self.before == 0:
            return math.copysign(math.inf, self.after) if self.after else 0.0
        return (self.after - self.before) / abs(self.before)


def change_points(
    values: ArrayLike, alpha: float = 0.01, magnitude: float = 0.0, permutations: int = 999, seed: int = 0
) -> list[ChangePoint]:
    """The change points of a series, in order.

    values: ``(n,)``, oldest first, one a commit. alpha: level of each split; the chance that an unchanged series shows any
    change point is about alpha. magnitude: relative changes of level below it are merged away. permutations, seed: of the
    test; the smallest p-value is ``1 / (permutations + 1)``.
    """
    x = finite_values(values, "values")
    if not 0 < alpha < 1:
        raise BenchError(f"alpha lies between 0 and 1, got {alpha}")
    rng = np.random.default_rng(seed)
    splits: dict[int, float] = {}
    segments = [(0, x.size)]
    while segments:
        begin, end = segments.pop(0)
        if end - begin < 2 * MINIMUM_SEGMENT:
            continue
        part = x[begin:end]
        statistic, place = (float(found[0]) for found in best_split(part[None]))
        p = _permutation_p(part, statistic, alpha, permutations, rng)
        if p is not None:
            middle = begin + int(place)
            splits[middle] = p
            segments += [(begin, middle), (middle, end)]
    return _merged(x, splits, magnitude)


def _permutation_p(
    part: np.ndarray, statistic: float, alpha: float, permutations: int, rng: np.random.Generator
) -> float | None:
    """p-value of a split if it is at most alpha, else None, found out with as few shuffles as that takes."""
    allowed = int(alpha * (permutations + 1)) - 1  # that many shuffles may split as well
    if statistic <= 0 or allowed < 0:
        return None
    reached = done = 0
    while done < permutations:
        rows = min(permutations - done, max(1, 2_000_000 // part.size**2), 100)
        shuffled = rng.permuted(np.broadcast_to(part, (rows, part.size)), axis=1)
        reached += int((best_split(shuffled)[0] >= statistic * (1 - 1e-12)).sum())
        done += rows
        if reached > allowed:
            return None
    return (1 + reached) / (permutations + 1)


def best_split(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest scaled energy distance over all splits of each row, and where it is.

    For a split into m and k points: ``m k / (m + k) * (2 E|X - Y| - E|X - X'| - E|Y - Y'|)``, means over pairs.
    series: ``(rows, n)``. Returns ``(rows,)`` statistics and ``(rows,)`` indices of the first point of the right side.
    """
    rows, n = series.shape
    distance = np.abs(series[:, :, None] - series[:, None, :])
    corner = distance.cumsum(axis=1).cumsum(axis=2)  # corner[:, i, j]: sum over the first i + 1 rows and j + 1 columns
    m = np.arange(MINIMUM_SEGMENT, n - MINIMUM_SEGMENT + 1)
    k = n - m
    left = corner[:, m - 1, m - 1]
    across = corner[:, m - 1, -1] - left
    right = corner[:, -1, -1][:, None] - left - 2 * across
    energy = 2 * across / (m * k) - left / (m * (m - 1)) - right / (k * (k - 1))
    statistic = m * k / (m + k) * energy
    place = statistic.argmax(axis=1)
    return statistic[np.arange(rows), place], m[place]


def _merged(x: np.ndarray, splits: dict[int, float], magnitude: float) -> list[ChangePoint]:
    """Change points with the medians of their levels; the smallest relative change is merged away until all are large enough."""
    places = sorted(splits)
    while True:
        edges = [0, *places, x.size]
        levels = [float(np.median(x[a:b])) for a, b in pairwise(edges)]
        found = [ChangePoint(at, levels[i], levels[i + 1], splits[at]) for i, at in enumerate(places)]
        small = [point for point in found if abs(point.change) < magnitude]
        if not small:
            return found
        places.remove(min(small, key=lambda point: abs(point.change)).at)
