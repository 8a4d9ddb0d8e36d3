"""Fixed train/test splits, decided by the content of each example and by nothing else.

An example's *key* is a SHA-256 digest: of its decoded pixels before any resizing, or of what it depicts. Neither the
order of the examples nor the resolution asked for nor a random seed has a part in it, so the split is the same on every
machine, and equal examples (equal keys) always end up on the same side.

Two rules are used. ``stratified_split`` gives an exact number of test examples in equal shares of every class: for
built-in sets, whose content is fixed. ``hashed_split`` sends each example to the test side on its own hash alone, so that
adding or removing an image never moves another one: for users' folders; the size of its test side varies a little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def content_key(array: np.ndarray) -> bytes:
    """SHA-256 digest over the shape, dtype and bytes of one example."""
    sha = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).data)
    return sha.digest()


def name_key(name: str) -> bytes:
    """SHA-256 digest of a name, for examples that belong together by what they depict."""
    return hashlib.sha256(name.encode()).digest()


def hashed_split(keys: Sequence[bytes], test_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(train, test)``, ascending int64: test where the first 64 bits of the key, read as a fraction, lie below
    ``test_share``."""
    bound = int(test_share * 2**64)
    in_test = np.array([int.from_bytes(key[:8], "big") < bound for key in keys], dtype=bool)
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def stratified_split(keys: Sequence[bytes], labels: np.ndarray | None, test_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(train, test)``, ascending int64, with ``test_size`` test examples.

    Each class gives its share of them (largest remainders). Within a class the examples are taken in the order of their
    keys; a group of equal keys is taken whole, and left out where it would exceed the share, so the test side can fall
    short of ``test_size`` only where groups are large.
    """
    classes = np.zeros(len(keys), dtype=np.int64) if labels is None else np.asarray(labels)
    in_test = np.zeros(len(keys), dtype=bool)
    for label, quota in _quotas(classes, test_size).items():
        groups: dict[bytes, list[int]] = {}
        for index in np.flatnonzero(classes == label).tolist():
            groups.setdefault(keys[index], []).append(index)
        for key in sorted(groups):
            if len(groups[key]) <= quota:
                in_test[groups[key]] = True
                quota -= len(groups[key])
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def _quotas(classes: np.ndarray, test_size: int) -> dict[int, int]:
    """How many test examples each class gives: proportional, rounded by largest remainder (ties: lower label first)."""
    values, counts = np.unique(classes, return_counts=True)
    exact = counts * test_size / counts.sum()
    quotas = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: test_size - quotas.sum()]] += 1
    return {int(value): int(quota) for value, quota in zip(values, quotas, strict=True)}
