"""k-nearest-neighbour balls around two sets of points, and which points of the other set lie in them: exact, in blocks.

Candidates come from float32 matrix products; whatever lies within their rounding error of a decision is decided again in
float64 from differences. So counts do not depend on block size, thread count or the order of rows, and a copy is at
distance 0. Extra memory: one float32 copy of a set and blocks of a few MB.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.exact import exact_float32
from bench.metrics.products import rounding, row_products

BLOCK_BYTES = 12 * 2**20
PAIRS = 512
SPARE = 8  # neighbours beyond the wanted ones that may change places in float64
LARGEST, SMALLEST = 1e36, 1e-24
"""Squared distances from the centre that float32 holds: the largest, and the usual one."""


class Pairs(NamedTuple):
    """Pairs of a real row and a fake row: does the fake lie in the real's ball and in its outer ball, and the real in the fake's."""

    real: np.ndarray
    fake: np.ndarray
    in_real: np.ndarray
    in_outer: np.ndarray
    in_fake: np.ndarray


class Neighbourhoods(NamedTuple):
    """Of each of n points: squared distances to its k-th and its (k + 1)-th nearest other point, ``radii`` and ``outer`` ``(n,)``
    float64, and which its k nearest are, ``fellows (n, k)``."""

    radii: np.ndarray
    outer: np.ndarray
    fellows: np.ndarray


def squared_radii(points: Points | np.ndarray, k: int) -> np.ndarray:
    """float64 ``(n,)``: squared distance of each point of ``(n, d)``, n > k, to its k-th nearest other point."""
    return _settled(points if isinstance(points, Points) else Points(points), (k,))[0][0]


def neighbourhoods(points: Points | np.ndarray, k: int) -> Neighbourhoods:
    """Of points ``(n, d)``, n > k + 1. Of several that are equally near as the k-th any are taken for fellows."""
    (radii, outer), fellows = _settled(points if isinstance(points, Points) else Points(points), (k, k + 1))
    return Neighbourhoods(radii, outer, fellows)


def _settled(points: Points, ranks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances to the neighbours of these ranks ``(len(ranks), n)``, and those up to the first rank ``(n, ranks[0])``."""
    everyone = np.arange(len(points))
    wanted = min(max(ranks) + SPARE, len(points) - 1)
    radii, fellows, sure = _decided(points, everyone, ranks, *_all_nearest(points, wanted))
    unsure = np.flatnonzero(~sure)
    if len(unsure):
        exacter = points.exacter
        radii[:, unsure], fellows[unsure], sure = _decided(
            exacter, unsure, ranks, *_nearest_of(exacter, unsure, wanted)
        )
        unsure = unsure[~sure]
    for row in unsure:  # closer to each other than rounding errors: all differences
        squared = squared_distances(points.values, np.full_like(everyone, row), points.values, everyone)
        squared[row] = np.inf
        nearest = np.argsort(squared, kind="stable")[: max(ranks)]
        radii[:, row] = [squared[nearest[rank - 1]] for rank in ranks]
        fellows[row] = nearest[: ranks[0]]
    return radii, fellows


def _all_nearest(points: Points, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``wanted`` smallest lower bounds of each point to the others, and whose they are; each pair is computed once."""
    n = len(points)
    values = torch.full((n, wanted), torch.inf, dtype=points.dtype, device="cpu")
    indices = torch.zeros(n, wanted, dtype=torch.int64, device="cpu")

    def take(rows: slice, bounds: Tensor, first: int) -> None:
        found = bounds.topk(min(wanted, bounds.shape[1]), dim=1, largest=False, sorted=False)
        both = torch.cat([values[rows], found.values], 1)
        names = torch.cat([indices[rows], found.indices + first], 1)
        values[rows], chosen = both.topk(wanted, dim=1, largest=False, sorted=False)
        indices[rows] = names.gather(1, chosen)

    start = 0
    while start < n:
        stop = min(n, start + min(_rows(n - start, points.dtype), max(64, n // 8)))
        bounds = points.bounds(points.left_factor(slice(start, stop)), start)
        bounds[:, : stop - start].fill_diagonal_(torch.inf)
        take(slice(start, stop), bounds, start)
        if stop < n:
            take(slice(stop, n), bounds[:, stop - start :].T.contiguous(), start)
        start = stop
    return values.numpy(), indices.numpy()


def _nearest_of(points: Points, rows: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for some of the points."""
    values, indices = [], []
    for chosen in chunks(rows, len(points), points.dtype):
        bounds = points.bounds(points.left_factor(chosen))
        bounds[torch.arange(len(chosen), device="cpu"), torch.from_numpy(chosen)] = torch.inf
        found = bounds.topk(wanted, dim=1, largest=False, sorted=False)
        values.append(found.values)
        indices.append(found.indices)
    return torch.cat(values).numpy(), torch.cat(indices).numpy()


def _decided(
    points: Points, rows: np.ndarray, ranks: tuple[int, ...], lower: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact squared radii of ``rows`` for each rank, the neighbours up to the first rank, and which rows are sure.

    From the candidates' lower bounds; only those that rounding could have put on either side of a k-th are computed from
    differences. Sure are rows whose radii no point outside the candidates can undercut: their largest lower bound is at
    least as large.
    """
    lower = lower.astype(np.float64)
    upper = lower + 2 * (points.slack[rows, None] + points.slack[indices])
    everyone = lower.shape[1] == len(points) - 1
    found, fellows, sure = [], indices[:, : ranks[0]], np.ones(len(rows), bool)
    for rank in ranks:
        smallest, largest = (np.partition(bound, rank - 1, axis=1)[:, rank - 1, None] for bound in (lower, upper))
        squared = np.where(upper < smallest, -np.inf, np.inf)
        at, column = np.nonzero((upper >= smallest) & (lower <= largest))
        squared[at, column] = squared_distances(points.values, rows[at], points.values, indices[at, column])
        radii = np.partition(squared, rank - 1, axis=1)[:, rank - 1]
        sure &= (lower.max(1) >= radii) | (radii <= 0) | everyone
        if rank == ranks[0]:
            nearest = np.argpartition(squared, rank - 1, axis=1)[:, :rank]
            fellows = np.take_along_axis(indices, nearest, 1)
        found.append(radii)
    return np.array(found), fellows, sure


def close_pairs(
    real: np.ndarray,
    fake: Points,
    real_radii: np.ndarray,
    fake_radii: np.ndarray,
    closed: bool,
    outer: np.ndarray | None = None,
) -> Iterator[Pairs]:
    """All pairs of which one lies in the other's ball of these squared radii, a block of real rows after the other.

    closed: a ball holds its boundary. outer: squared radii of larger balls around the real rows; default the same.
    """
    inside = np.less_equal if closed else np.less
    outer = real_radii if outer is None else outer
    below_real, below_fake = (torch.from_numpy(_up(radii)) for radii in (outer, fake_radii))
    for chosen in chunks(np.arange(len(real)), len(fake), torch.float32):
        block, others = comparable(Points(real[chosen], fake.centre), fake)
        bounds = others.bounds(block.left_factor(slice(None)))
        mask = bounds <= below_real[chosen, None]
        mask |= bounds <= below_fake
        rows, fakes = (index.numpy() for index in mask.nonzero(as_tuple=True))
        limits = np.stack([real_radii[chosen[rows]], outer[chosen[rows]], fake_radii[fakes]])
        squared = _told_apart(bounds.numpy()[rows, fakes], block, rows, others, fakes, limits)
        yield Pairs(chosen[rows], fakes, *(inside(squared, limit) for limit in limits))


def balls_around(points: np.ndarray, centres: Points, squared: np.ndarray) -> np.ndarray:
    """How many of the closed balls with these squared radii ``(n,)`` hold each of the points ``(M,)``."""
    below = torch.from_numpy(_up(squared))
    counts = np.empty(len(points), np.int64)
    for chosen in chunks(np.arange(len(points)), len(centres), torch.float32):
        block, balls = comparable(Points(points[chosen], centres.centre), centres)
        bounds = balls.bounds(block.left_factor(slice(None)))
        rows, columns = (index.numpy() for index in (bounds <= below).nonzero(as_tuple=True))
        found = _told_apart(bounds.numpy()[rows, columns], block, rows, balls, columns, squared[None, columns])
        counts[chosen] = np.bincount(rows[found <= squared[columns]], minlength=len(chosen))
    return counts


def _told_apart(
    bounds: np.ndarray, left: Points, rows: np.ndarray, right: Points, columns: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    """float64 squared distances of pairs from their lower bounds, from differences where rounding could put one on the other side
    of one of its ``limits`` ``(L, pairs)``."""
    slack = left.slack[rows] + right.slack[columns]
    squared = bounds + slack
    unsure = (np.abs(squared - limits) <= slack).any(0) & (slack > 0)
    squared[unsure] = squared_distances(left.values, rows[unsure], right.values, columns[unsure])
    return squared


def squared_distances(x: np.ndarray, rows: np.ndarray, y: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 squared distances of the pairs ``(x[rows], y[columns])`` from differences."""
    squared = np.empty(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        difference = x[rows[part]].astype(np.float64) - y[columns[part]]
        squared[part] = np.einsum("ij,ij->i", difference, difference)
    return squared


class Points:
    """Points prepared so that one matrix product gives lower bounds of squared distances between them.

    values: ``(n, d)``. centre: ``(d,)``, their middle unless given; two sets to be compared share one, which should lie near
    both, as rounding errors grow with the distance from it. dtype: default float32, or float64 where its range is too small.
    """

    def __init__(self, values: np.ndarray, centre: np.ndarray | None = None, dtype: torch.dtype | None = None) -> None:
        self.values = values
        self.centre = _middle(values) if centre is None else centre
        squares = self._prepare(dtype or torch.float32)
        if dtype is None and (squares.max() > LARGEST or 0 < np.median(squares) < SMALLEST):
            self._prepare(torch.float64)

    def _prepare(self, dtype: torch.dtype) -> np.ndarray:
        """Make the matrix; squared distances from the centre ``(n,)``."""
        n, d = self.values.shape
        self.dtype = dtype
        self.matrix = torch.empty(n, d + 2, dtype=dtype, device="cpu")
        self.memory = torch.empty(0, dtype=dtype, device="cpu")
        squares, relative = np.empty(n), rounding(dtype, d)
        for start in range(0, n, PAIRS):
            part = slice(start, start + PAIRS)
            centred = self.values[part] - self.centre
            squares[part] = np.einsum("ij,ij->i", centred, centred)
            self.matrix[part, :d] = torch.from_numpy(centred)
        self.slack = relative * squares + np.where(squares > 0, d * torch.finfo(dtype).tiny, 0)
        self.matrix[:, d] = 1
        self.matrix[:, d + 1] = torch.from_numpy(squares - self.slack)
        return squares

    @functools.cached_property
    def exacter(self) -> Points:
        """The same points in float64."""
        return self if self.dtype == torch.float64 else Points(self.values, self.centre, torch.float64)

    def __len__(self) -> int:
        return len(self.values)

    def left_factor(self, which: slice | np.ndarray) -> Tensor:
        """Some of the points, for ``bounds``."""
        part = self.matrix[which]
        return torch.cat([-2 * part[:, :-2], part[:, -1:], part[:, -2:-1]], 1)

    def bounds(self, left: Tensor, first: int = 0) -> Tensor:
        """Lower bounds between the points of ``left`` and these from ``first`` on, in memory that the next call overwrites."""
        shape = len(left), len(self) - first
        if self.memory.numel() < shape[0] * shape[1]:
            self.memory = torch.empty(shape[0] * shape[1], dtype=self.dtype, device="cpu")
        with exact_float32():
            return row_products(left, self.matrix[first:], self.memory[: shape[0] * shape[1]].view(shape))


def comparable(left: Points, right: Points) -> tuple[Points, Points]:
    """Both in one type: in float64 where one of them needs it."""
    return (left, right) if left.dtype == right.dtype else (left.exacter, right.exacter)


def _middle(values: np.ndarray) -> np.ndarray:
    """float64 ``(d,)``: mean of the rows, without those that lie a thousand times as far out as most; all others would lose digits."""
    size = np.maximum(values.max(1), -values.min(1))
    usual = size <= 1e3 * np.median(size)
    return values.mean(0, dtype=np.float64, where=True if usual.all() else usual[:, None])


def chunks(rows: np.ndarray, columns: int, dtype: torch.dtype) -> Iterator[np.ndarray]:
    size = _rows(columns, dtype)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _rows(columns: int, dtype: torch.dtype) -> int:
    return max(16, BLOCK_BYTES // (columns * dtype.itemsize))


def _up(values: np.ndarray) -> np.ndarray:
    """float32 not below the float64 values."""
    with np.errstate(over="ignore"):  # beyond float32 is infinity
        return np.nextafter(values.astype(np.float32), np.float32(np.inf))
