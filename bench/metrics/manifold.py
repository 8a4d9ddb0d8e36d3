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
PAIRS = 512
SPARE = 8  # neighbours beyond the wanted ones that may change places in float64
ROUNDING = {torch.float32: 3e-6, torch.float64: 1e-13}  # of a squared distance, relative to |x|^2 + |y|^2


class Pairs(NamedTuple):
    """Pairs of a real row and a fake row: does the fake lie in the real's ball, and the real in the fake's."""

    real: np.ndarray
    fake: np.ndarray
    in_real: np.ndarray
    in_fake: np.ndarray


def squared_radii(points: np.ndarray, k: int) -> np.ndarray:
    """float64 ``(n,)``: squared distance of each point of ``(n, d)``, n > k, to its k-th nearest other point."""
    wanted = min(k + SPARE, len(points) - 1)
    operand = _Operand(points, points.mean(0, dtype=np.float64), torch.float32)
    radii, sure = _decided(points, np.arange(len(points)), k, *_all_nearest(operand, wanted), operand.slack)
    unsure = np.flatnonzero(~sure)
    if len(unsure):
        operand = _Operand(points, operand.centre, torch.float64)
        nearest = _nearest_of(operand, points, unsure, wanted)
        radii[unsure], sure = _decided(points, unsure, k, *nearest, operand.slack)
        unsure = unsure[~sure]
    for row in unsure:  # closer to each other than rounding errors: all differences
        everyone = np.arange(len(points))
        squared = squared_distances(points, np.full_like(everyone, row), points, everyone)
        squared[row] = np.inf
        radii[row] = np.partition(squared, k - 1)[k - 1]
    return radii


def _all_nearest(operand: _Operand, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``wanted`` smallest lower bounds of each point to the others, and whose they are; each pair is computed once."""
    n = len(operand.slack)
    values, indices = torch.full((n, wanted), torch.inf, dtype=operand.dtype), torch.zeros(n, wanted, dtype=torch.int64)

    def take(rows: slice, bounds: Tensor, first: int) -> None:
        found = bounds.topk(min(wanted, bounds.shape[1]), dim=1, largest=False, sorted=False)
        both = torch.cat([values[rows], found.values], 1)
        names = torch.cat([indices[rows], found.indices + first], 1)
        values[rows], chosen = both.topk(wanted, dim=1, largest=False, sorted=False)
        indices[rows] = names.gather(1, chosen)

    start = 0
    while start < n:
        stop = min(n, start + min(_rows(n - start, operand.dtype), max(64, n // 8)))
        bounds = operand.product(operand.rows(slice(start, stop)), start)
        own = bounds[:, : stop - start]
        own.fill_diagonal_(torch.inf)
        take(slice(start, stop), bounds, start)
        if stop < n:
            take(slice(stop, n), bounds[:, stop - start :].T.contiguous(), start)
        start = stop
    return values.numpy(), indices.numpy()


def _nearest_of(operand: _Operand, points: np.ndarray, rows: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for some of the points."""
    values, indices = [], []
    for chosen in _chunks(rows, len(points), operand.dtype):
        bounds, _ = operand.bounds(points[chosen])
        bounds[torch.arange(len(chosen)), torch.from_numpy(chosen)] = torch.inf
        found = bounds.topk(wanted, dim=1, largest=False, sorted=False)
        values.append(found.values)
        indices.append(found.indices)
    return torch.cat(values).numpy(), torch.cat(indices).numpy()


def _decided(
    points: np.ndarray, rows: np.ndarray, k: int, lower: np.ndarray, indices: np.ndarray, slack: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact squared radii of ``rows`` from the candidates' lower bounds, and which of them are sure.

    Only candidates that rounding could have put on either side of the k-th are computed from differences. Sure are those
    whose radius no point outside the candidates can undercut: their largest lower bound is at least as large.
    """
    lower = lower.astype(np.float64)
    upper = lower + 2 * (slack[rows, None] + slack[indices])
    smallest, largest = (np.partition(bound, k - 1, axis=1)[:, k - 1, None] for bound in (lower, upper))
    squared = np.where(upper < smallest, -np.inf, np.inf)
    at, column = np.nonzero((upper >= smallest) & (lower <= largest))
    squared[at, column] = squared_distances(points, rows[at], points, indices[at, column])
    radii = np.partition(squared, k - 1, axis=1)[:, k - 1]
    everyone = lower.shape[1] == len(points) - 1
    return radii, (lower.max(1) >= radii) | (radii <= 0) | everyone


def close_pairs(
    real: np.ndarray, fake: np.ndarray, real_radii: np.ndarray, fake_radii: np.ndarray, closed: bool
) -> Iterator[Pairs]:
    """All pairs of which one lies in the other's ball of these squared radii, a block of real rows after the other.

    closed: a ball holds its boundary.
    """
    inside = np.less_equal if closed else np.less
    columns = _Operand(fake, fake.mean(0, dtype=np.float64), torch.float32)
    below_fake = torch.from_numpy(_up(fake_radii))
    for chosen in _chunks(np.arange(len(real)), len(fake), torch.float32):
        bounds, row_slack = columns.bounds(real[chosen])
        mask = bounds <= torch.from_numpy(_up(real_radii[chosen]))[:, None]
        mask |= bounds <= below_fake
        rows, fakes = (index.numpy() for index in mask.nonzero(as_tuple=True))
        slack = row_slack[rows] + columns.slack[fakes]
        squared = bounds.numpy()[rows, fakes] + slack
        reals = chosen[rows]
        real_radius, fake_radius = real_radii[reals], fake_radii[fakes]
        unsure = (np.abs(squared - real_radius) <= slack) | (np.abs(squared - fake_radius) <= slack)
        unsure &= slack > 0
        squared[unsure] = squared_distances(real, reals[unsure], fake, fakes[unsure])
        yield Pairs(reals, fakes, inside(squared, real_radius), inside(squared, fake_radius))


def squared_distances(x: np.ndarray, rows: np.ndarray, y: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 squared distances of the pairs ``(x[rows], y[columns])`` from differences."""
    squared = np.empty(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        difference = x[rows[part]].astype(np.float64) - y[columns[part]]
        squared[part] = np.einsum("ij,ij->i", difference, difference)
    return squared


class _Operand:
    """Points prepared so that one matrix product gives lower bounds of squared distances to them."""

    def __init__(self, points: np.ndarray, centre: np.ndarray, dtype: torch.dtype) -> None:
        self.centre, self.dtype, self.rounding = centre, dtype, ROUNDING[dtype]
        n, d = points.shape
        self.matrix = torch.empty(n, d + 2, dtype=dtype)
        self.slack = np.empty(n)
        self.memory = torch.empty(0, dtype=dtype)
        for start in range(0, n, PAIRS):
            part = slice(start, start + PAIRS)
            centred, squares = self._centred(points[part])
            self.slack[part] = self.rounding * squares
            self.matrix[part, :d] = centred
            self.matrix[part, d] = 1
            self.matrix[part, d + 1] = torch.from_numpy((1 - self.rounding) * squares).to(dtype)

    def bounds(self, points: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Lower bounds ``(B, n)`` of the squared distances, and the slack of these points."""
        centred, squares = self._centred(points)
        rows = torch.empty(len(points), self.matrix.shape[1], dtype=self.dtype)
        rows[:, :-2] = centred.mul_(-2)
        rows[:, -2] = torch.from_numpy((1 - self.rounding) * squares).to(self.dtype)
        rows[:, -1] = 1
        return self.product(rows), self.rounding * squares

    def rows(self, which: slice) -> Tensor:
        """Some of the points themselves, as the left factor of ``product``."""
        part = self.matrix[which]
        return torch.cat([-2 * part[:, :-2], part[:, -1:], part[:, -2:-1]], 1)

    def product(self, rows: Tensor, first: int = 0) -> Tensor:
        """Lower bounds between ``rows`` and the points from ``first`` on, in memory that the next product overwrites."""
        shape = len(rows), len(self.matrix) - first
        if self.memory.numel() < shape[0] * shape[1]:
            self.memory = torch.empty(shape[0] * shape[1], dtype=self.dtype)
        return torch.mm(rows, self.matrix[first:].T, out=self.memory[: shape[0] * shape[1]].view(shape))

    def _centred(self, points: np.ndarray) -> tuple[Tensor, np.ndarray]:
        centred = points - self.centre
        return torch.from_numpy(centred).to(self.dtype), np.einsum("ij,ij->i", centred, centred)


def _chunks(rows: np.ndarray, columns: int, dtype: torch.dtype) -> Iterator[np.ndarray]:
    size = _rows(columns, dtype)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _rows(columns: int, dtype: torch.dtype) -> int:
    return max(16, BLOCK_BYTES // (columns * dtype.itemsize))


def _up(values: np.ndarray) -> np.ndarray:
    """float32 not below the float64 values."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
