"""An order of rows that depends on what they hold, not on where they stand.

Whatever cuts a set into parts (splits, subsets, blocks of a jackknife), pairs its members, begins an iteration from some of
them or draws noise for each must not give another number when the same set comes in another order, sorted by class for one.
So rows are first put in an order that their content decides, then in a random one drawn once for all by a seed.
"""

from __future__ import annotations

import math

import numpy as np

BLOCK_BYTES = 32 * 2**20


def order_of(*sets: np.ndarray, seed: int = 0) -> np.ndarray:
    """Indices ``(N,)`` of a random order of the rows of ``(N, ...)`` numbers: the same rows come in the same order for one seed.

    Several sets of equal N are taken as one of longer rows, so that pairs, or images and their labels, stay together. Rows
    are told apart by one random projection of their values, each scaled to its range, so that a change in the last digit
    of some value leaves the order as it was. Equal rows may change places.
    """
    keys = np.sum([_projection(values, number) for number, values in enumerate(sets)], axis=0)
    return np.argsort(keys, kind="stable")[np.random.default_rng(seed).permutation(len(keys))]


def shuffled(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """``rows`` in the order of ``order_of``."""
    return rows[order_of(rows, seed=seed)]


def sampled(rows: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """``shuffled`` rows, or a random ``most`` of them where there are more."""
    return rows[order_of(rows, seed=seed)[:most]]


def _projection(values: np.ndarray, number: int) -> np.ndarray:
    """One number ``(N,)`` for each row of finite ``values (N, ...)``; number: which of the sets this is."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    if rows.size == 0:
        return np.zeros(len(values))
    low, high = rows.min(0).astype(np.float64) / 2, rows.max(0).astype(np.float64) / 2  # halves: a range may overflow
    weights = np.random.default_rng(number).standard_normal(rows.shape[1])
    scale = high - low + 1e-6 * np.maximum(abs(low), abs(high))  # what varies by rounding only must not weigh as much
    weights = np.divide(weights, scale, out=np.zeros_like(weights), where=high > low)
    step = max(1, BLOCK_BYTES // (8 * rows.shape[1]))
    parts = [(rows[i : i + step].astype(np.float64) / 2 - low) @ weights for i in range(0, len(rows), step)]
    return np.concatenate(parts)
