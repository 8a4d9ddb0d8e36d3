"""An order of rows that depends on what they hold, not on where they stand.

Whatever cuts a set into parts (splits, subsets, blocks of a jackknife), pairs its members, begins an iteration from some of
them or draws noise for each must not give another number when the same set comes in another order, sorted by class for one.
So rows are first put in an order that their content decides, as a hash does, then in a random one drawn once for all by a seed.
"""

from __future__ import annotations

import math

import numpy as np

BLOCK_BYTES = 32 * 2**20
TURNS = 1000


def order_of(*sets: np.ndarray, seed: int = 0) -> np.ndarray:
    """Indices ``(N,)`` of a random order of the rows of ``(N, ...)`` numbers: the same rows come in the same order for one seed.

    Several sets of equal N are taken as one of longer rows, so that pairs, or images and their labels, stay together. Rows
    are told apart by one random projection of their values, each scaled to its range, so that a change in the last digit
    of some value leaves the order as it was, and of that only what is left after some hundred turns of a circle counts: the
    largest and the smallest of all sets would otherwise always meet alike. Equal rows may change places.
    """
    keys = np.sum([_projection(values, number) for number, values in enumerate(sets)], axis=0)
    return np.argsort(keys % 1, kind="stable")[np.random.default_rng(seed).permutation(len(keys))]


def shuffled(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """``rows`` in the order of ``order_of``."""
    return rows[order_of(rows, seed=seed)]


def sampled(rows: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """``shuffled`` rows, or a random ``most`` of them where there are more."""
    return rows[order_of(rows, seed=seed)[:most]]


def _projection(values: np.ndarray, number: int) -> np.ndarray:
    """A number ``(N,)`` of hundreds for each row of finite ``values (N, ...)``; number: which of the sets this is."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    if rows.size == 0:
        return np.zeros(len(values))
    low, high = rows.min(0).astype(np.float64) / 2, rows.max(0).astype(np.float64) / 2  # halves: a range may overflow
    weights = np.random.default_rng(number).standard_normal(rows.shape[1]) * (TURNS / math.sqrt(rows.shape[1]))
    scale = high - low + 1e-3 * np.maximum(abs(low), abs(high))  # what varies by rounding only must not weigh as much
    varies = high > low
    scale = np.exp2(np.ceil(np.log2(scale, out=np.zeros_like(scale), where=varies)))
    weights = np.where(varies, weights / scale, 0)
    start = (high - low) @ weights  # else the smallest of single values would always begin the circle
    step = max(1, BLOCK_BYTES // (8 * rows.shape[1]))
    parts = [(rows[i : i + step].astype(np.float64) / 2 - low) @ weights for i in range(0, len(rows), step)]
    return np.concatenate(parts) + start
