"""Nearest neighbours by brute force, exact in float64, in memory bounded by a block times the number of points."""

from __future__ import annotations

import numpy as np
import torch

from bench.errors import BenchError
from bench.metrics.inputs import Features, real_numbers, to_numpy, usable
from bench.metrics.manifold import SPARE, Points, chunks, comparable, squared_distances


def nearest(
    queries: np.ndarray, points: np.ndarray, k: int = 1, *, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances to the ``k`` nearest of ``points`` ``(M, d)`` and their indices, for each query ``(N, d)``.

    Returns float64 ``(N, k)``, ascending, and int64 ``(N, k)``. Candidates come from a matrix product and are decided by
    differences, those of all points where rounding could have hidden a nearer one: a copy is at distance 0 exactly. skip_self:
    query i *is* point i and is not its own neighbour (another copy of it is).
    """
    queries, points = feature_sets(queries, points)
    if k + skip_self > len(points):
        raise BenchError(
            f"{k} nearest neighbour(s) of each need at least {k + skip_self} examples, but there are {len(points)}; give more"
        )
    base = Points(points)
    squared, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for rows in chunks(np.arange(len(queries)), len(base), torch.float32):
        squared[rows], indices[rows] = _nearest_of(queries, rows, base, k, skip_self)
    return np.sqrt(squared), indices


def _nearest_of(
    queries: np.ndarray, rows: np.ndarray, points: Points, k: int, skip_self: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances ``(len(rows), k)``, ascending, and indices, of some of the queries."""
    block, base = comparable(Points(queries[rows], points.centre), points)
    bounds = base.bounds(block.left_factor(slice(None)))
    if skip_self:
        bounds[torch.arange(len(rows), device="cpu"), torch.from_numpy(rows)] = torch.inf
    wanted = min(k + SPARE, len(base) - skip_self)
    lower, indices = (found.numpy() for found in bounds.topk(wanted, dim=1, largest=False, sorted=False))
    lower = lower.astype(np.float64)
    upper = lower + 2 * (block.slack[:, None] + base.slack[indices])
    at, column = np.nonzero(lower <= np.partition(upper, k - 1, axis=1)[:, k - 1, None])
    squared = np.full(lower.shape, np.inf)
    squared[at, column] = squared_distances(queries, rows[at], base.values, indices[at, column])
    squared, indices = _smallest(squared, indices, k)
    unsure = (lower.max(1) < squared[:, -1]) & (wanted < len(base) - skip_self)
    if unsure.any():
        decide = _by_differences if base.dtype == torch.float64 else _nearest_of
        squared[unsure], indices[unsure] = decide(queries, rows[unsure], base.exacter, k, skip_self)
    return squared, indices


def _by_differences(
    queries: np.ndarray, rows: np.ndarray, points: Points, k: int, skip_self: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The same from differences to all points: of clusters that are closer together than rounding errors."""
    everyone = np.arange(len(points))
    squared, indices = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)
    for i, row in enumerate(rows):
        to_all = squared_distances(queries, np.full_like(everyone, row), points.values, everyone)
        if skip_self:
            to_all[row] = np.inf
        squared[i], indices[i] = (found[0] for found in _smallest(to_all[None], everyone[None], k))
    return squared, indices


def _smallest(squared: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest of each row, ascending, and their indices."""
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, 1), np.take_along_axis(indices, order, 1)


def feature_sets(*sets: Features) -> list[np.ndarray]:
    """Arrays, tensors or lists as finite ``(N, d)`` with N > 0 and the same d > 0, float32 or float64, else BenchError."""
    arrays = [to_numpy(features) for features in sets]
    if any(each.ndim != 2 or each.size == 0 or each.shape[1] != arrays[0].shape[1] for each in arrays):
        shapes = " and ".join(str(each.shape) for each in arrays)
        raise BenchError(f"feature sets must be (N, d) with N > 0 and one d > 0, not {shapes}; one row a sample")
    return [usable(real_numbers(each, "features"), "features") for each in arrays]
