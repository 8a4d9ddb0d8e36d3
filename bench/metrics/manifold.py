"""k-nearest-neighbour balls around two sets of points, and which points of the other set lie in them: exact, in blocks.

Candidates come from float32 matrix products; whatever lies within their rounding error of a decision is decided again in
float64 from differences. So counts do not depend on block size, thread count or the order of rows, and a copy is at
distance 0. Extra memory: one float32 copy of a set and blocks of a few MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_BYTES = 16 * 2**20
PAIRS = 4096
SPARE = 8  # neighbours beyond the wanted ones that may change places in float64
ROUNDING = {torch.float32: 3e-6, torch.float64: 1e-13}  # of a squared distance, relative to |x|^2 + |y|^2


class Balls(NamedTuple):
    """Squared distance to the k-th and to the (k+1)-th nearest other point ``(n,)`` float64; the k nearest ``(n, k)``."""

    radius: np.ndarray
    next_radius: np.ndarray
    neighbours: np.ndarray


class Pairs(NamedTuple):
    """Pairs of a real row and a fake row, and whether the fake lies in the real's ball, in that ball grown to the next
    neighbour, and the real in the fake's ball and in that grown."""

    real: np.ndarray
    fake: np.ndarray
    in_real: np.ndarray
    in_grown_real: np.ndarray
    in_fake: np.ndarray
    in_grown_fake: np.ndarray


def balls(points: np.ndarray, k: int) -> Balls:
    """Radii of all points of ``(n, d)``, n >= k + 2."""
    n = len(points)
    nearest = np.empty((n, k + 1), np.int64)
    squared = np.empty((n, k + 1))
    unsure = _nearest(points, np.arange(n), k + 1, torch.float32, nearest, squared)
    if len(unsure):  # closer to each other than float32 can tell
        _nearest(points, unsure, k + 1, torch.float64, nearest, squared)
    return Balls(squared[:, k - 1].copy(), squared[:, k].copy(), nearest[:, :k].copy())


def _nearest(
    points: np.ndarray, rows: np.ndarray, count: int, dtype: torch.dtype, nearest: np.ndarray, squared: np.ndarray
) -> np.ndarray:
    """Fill the ``count`` nearest other points of ``rows``; returns the rows of which ``dtype`` cannot be sure."""
    columns = _Operand(points, points.mean(0, dtype=np.float64), dtype)
    wanted = min(count + SPARE, len(points) - 1)
    unsure = []
    for chosen in _chunks(rows, len(points), dtype):
        block = columns.bounds(points[chosen])
        block.values[torch.arange(len(chosen)), torch.from_numpy(chosen)] = torch.inf
        found = block.values.topk(wanted, dim=1, largest=False, sorted=False)
        candidates = found.indices.numpy()
        exact = squared_distances(points, np.repeat(chosen, wanted), points, candidates.ravel()).reshape(-1, wanted)
        order = np.argsort(exact, axis=1, kind="stable")[:, :count]
        squared[chosen] = np.take_along_axis(exact, order, 1)
        nearest[chosen] = np.take_along_axis(candidates, order, 1)
        if wanted < len(points) - 1:  # no point outside the candidates is nearer than their largest lower bound
            farthest = squared[chosen, count - 1]
            unsure.append(chosen[(found.values.amax(1).double().numpy() < farthest) & (farthest > 0)])
    return np.concatenate(unsure) if unsure else np.empty(0, np.int64)


def close_pairs(
    real: np.ndarray, fake: np.ndarray, around_real: Balls, around_fake: Balls, closed: bool
) -> Iterator[Pairs]:
    """All pairs of which one lies in the other's grown ball, a block of real rows after the other (all of a row together).

    closed: a ball holds its boundary.
    """
    dtype = torch.float32
    columns = _Operand(fake, fake.mean(0, dtype=np.float64), dtype)
    grown_fake = torch.from_numpy(_up(around_fake.next_radius))
    for chosen in _chunks(np.arange(len(real)), len(fake), dtype):
        block = columns.bounds(real[chosen])
        grown_real = torch.from_numpy(_up(around_real.next_radius[chosen]))
        mask = block.values <= grown_real[:, None]
        mask |= block.values <= grown_fake
        rows, fakes = (index.numpy() for index in mask.nonzero(as_tuple=True))
        slack = block.slack[rows] + columns.slack[fakes]
        approximate = block.values.numpy()[rows, fakes].astype(np.float64) + slack
        reals = chosen[rows]
        thresholds = (
            around_real.radius[reals],
            around_real.next_radius[reals],
            around_fake.radius[fakes],
            around_fake.next_radius[fakes],
        )
        unsure = np.zeros(len(reals), bool)
        for threshold in thresholds:
            unsure |= np.abs(approximate - threshold) <= slack
        unsure &= slack > 0
        approximate[unsure] = squared_distances(real, reals[unsure], fake, fakes[unsure])
        compare = np.less_equal if closed else np.less
        yield Pairs(reals, fakes, *(compare(approximate, threshold) for threshold in thresholds))


def squared_distances(x: np.ndarray, rows: np.ndarray, y: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 squared distances of the pairs ``(x[rows], y[columns])`` from differences."""
    squared = np.empty(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        difference = x[rows[part]].astype(np.float64) - y[columns[part]]
        squared[part] = np.einsum("ij,ij->i", difference, difference)
    return squared


class _Block(NamedTuple):
    values: Tensor
    slack: np.ndarray


class _Operand:
    """Points prepared so that one matrix product gives lower bounds of squared distances to them."""

    def __init__(self, points: np.ndarray, centre: np.ndarray, dtype: torch.dtype) -> None:
        self.centre, self.dtype, self.rounding = centre, dtype, ROUNDING[dtype]
        n, d = points.shape
        self.matrix = torch.empty(n, d + 2, dtype=dtype)
        self.slack = np.empty(n)
        for start in range(0, n, PAIRS):
            part = slice(start, start + PAIRS)
            centred, squares = self._centred(points[part])
            self.slack[part] = self.rounding * squares
            self.matrix[part, :d] = centred
            self.matrix[part, d] = 1
            self.matrix[part, d + 1] = torch.from_numpy((1 - self.rounding) * squares).to(dtype)

    def bounds(self, points: np.ndarray) -> _Block:
        """Lower bounds ``(B, n)`` of the squared distances, and the slack of these points."""
        centred, squares = self._centred(points)
        rows = torch.empty(len(points), self.matrix.shape[1], dtype=self.dtype)
        rows[:, :-2] = centred.mul_(-2)
        rows[:, -2] = torch.from_numpy((1 - self.rounding) * squares).to(self.dtype)
        rows[:, -1] = 1
        return _Block(rows @ self.matrix.T, self.rounding * squares)

    def _centred(self, points: np.ndarray) -> tuple[Tensor, np.ndarray]:
        centred = points - self.centre
        return torch.from_numpy(centred).to(self.dtype), np.einsum("ij,ij->i", centred, centred)


def _chunks(rows: np.ndarray, columns: int, dtype: torch.dtype) -> Iterator[np.ndarray]:
    size = max(16, BLOCK_BYTES // (columns * dtype.itemsize))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _up(values: np.ndarray) -> np.ndarray:
    """float32 not below the float64 values."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
