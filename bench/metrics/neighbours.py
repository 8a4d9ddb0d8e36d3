"""Nearest neighbours by brute force, exact in float64, in memory bounded by a block times the number of points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.metrics.inputs import Features, real_numbers, to_numpy, usable

BLOCK_BYTES = 64 * 2**20


def nearest(
    queries: np.ndarray, points: np.ndarray, k: int = 1, *, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances to the ``k`` nearest of ``points`` ``(M, d)`` and their indices, for each query ``(N, d)``.

    Returns float64 ``(N, k)``, ascending, and int64 ``(N, k)``. Neighbours are found through a matrix product and their
    distances then recomputed from differences: a copy is at distance 0 exactly. skip_self: query i *is* point i and is not
    its own neighbour (another copy of it is).
    """
    queries, points = feature_sets(queries, points)
    if k + skip_self > len(points):
        raise BenchError(
            f"{k} nearest neighbour(s) of each need at least {k + skip_self} examples, but there are {len(points)}; give more"
        )
    base = torch.from_numpy(np.ascontiguousarray(points)).double()
    centre = base.mean(0)  # far from the origin, |x|^2 - 2xy + |y|^2 would lose digits
    centred = base - centre
    lengths = (centred * centred).sum(1)
    rows = max(1, BLOCK_BYTES // (8 * len(points)))
    distances, indices = [], []
    for start in range(0, len(queries), rows):
        block = torch.from_numpy(np.ascontiguousarray(queries[start : start + rows])).double()
        squared = lengths - 2 * (block - centre) @ centred.T  # the query's own length does not change the order
        if skip_self:
            own = torch.arange(len(block), device=block.device)
            squared[own, own + start] = torch.inf
        found = squared.topk(k, dim=1, largest=False, sorted=False).indices
        exact = _distances(block, base, found)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order))
        indices.append(found.gather(1, order))
    return torch.cat(distances).numpy(), torch.cat(indices).numpy()


def _distances(block: Tensor, base: Tensor, indices: Tensor) -> Tensor:
    """Distances from each row of ``block`` to its rows of ``base``, one neighbour at a time to bound memory."""
    return torch.stack([(block - base[column]).norm(dim=1) for column in indices.T], dim=1)


def feature_sets(*sets: Features) -> list[np.ndarray]:
    """Arrays, tensors or lists as finite ``(N, d)`` with N > 0 and the same d > 0, float32 or float64, else BenchError."""
    arrays = [to_numpy(features) for features in sets]
    if any(each.ndim != 2 or each.size == 0 or each.shape[1] != arrays[0].shape[1] for each in arrays):
        shapes = " and ".join(str(each.shape) for each in arrays)
        raise BenchError(f"feature sets must be (N, d) with N > 0 and one d > 0, not {shapes}; one row a sample")
    return [usable(real_numbers(each, "features"), "features") for each in arrays]
