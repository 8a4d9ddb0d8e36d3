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


class Pairs(NamedTuple):
    """Pairs of a real row and a fake row: does the fake lie in the real's ball, and the real in the fake's."""

    real: np.ndarray
    fake: np.ndarray
    in_real: np.ndarray
    in_fake: np.ndarray


def squared_radii(points: np.ndarray, k: int) -> np.ndarray:
    """float64 ``(n,)``: squared distance of each point of ``(n, d)``, n > k, to its k-th nearest other point."""
    radii = np.empty(len(points))
    unsure = _fill_radii(radii, points, np.arange(len(points)), k, torch.float32)
    if len(unsure):  # closer to each other than float32 can tell
        _fill_radii(radii, points, unsure, k, torch.float64)
    return radii


def _fill_radii(radii: np.ndarray, points: np.ndarray, rows: np.ndarray, k: int, dtype: torch.dtype) -> np.ndarray:
    """Set ``radii[rows]``; returns the rows of which ``dtype`` cannot be sure."""
    columns = _Operand(points, points.mean(0, dtype=np.float64), dtype)
    wanted = min(k + SPARE, len(points) - 1)
    unsure = []
    for chosen in _chunks(rows, len(points), dtype):
        bounds, _ = columns.bounds(points[chosen])
        bounds[torch.arange(len(chosen)), torch.from_numpy(chosen)] = torch.inf
        found = bounds.topk(wanted, dim=1, largest=False, sorted=False)
        exact = squared_distances(points, np.repeat(chosen, wanted), points, found.indices.numpy().ravel())
        radii[chosen] = np.partition(exact.reshape(-1, wanted), k - 1, axis=1)[:, k - 1]
        if wanted < len(points) - 1:  # no point outside the candidates is nearer than their largest lower bound
            bound = found.values.amax(1).double().numpy()
            unsure.append(chosen[(bound < radii[chosen]) & (radii[chosen] > 0)])
    return np.concatenate(unsure) if unsure else np.empty(0, np.int64)


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
        return rows @ self.matrix.T, self.rounding * squares

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
