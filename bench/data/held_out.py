"""Classes held out of training: for models that are to notice what they have never seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from bench.data.base import Data
from bench.errors import BenchError


def without_classes(data: Data, held_out: Sequence[int]) -> Data:
    """``data`` without the training examples of these classes; the test side keeps them.

    BenchError where there are no labels, where a class is not known, and where none would be left to train on.
    """
    if not held_out:
        return data
    if data.train_labels is None:
        raise BenchError(f"held_out = {list(held_out)} needs a data set with labels, and {data.name} has none here")
    labels = data.train_labels
    known = np.union1d(labels, data.test_labels if data.test_labels is not None else labels)
    unknown = [number for number in held_out if number not in known]
    if unknown:
        raise BenchError(
            f"held_out = {list(held_out)}: {data.name} has no class {unknown[0]}; it has {len(known)}, from 0"
        )
    kept = np.flatnonzero(~np.isin(labels, list(held_out)))
    if not len(kept):
        raise BenchError(f"held_out = {list(held_out)} leaves {data.name} no class to train on; hold out fewer")
    return dataclasses.replace(
        data,
        train=data.train[kept],
        train_labels=labels[kept],
        train_captions=None if data.train_captions is None else tuple(data.train_captions[i] for i in kept),
        train_factors=None if data.train_factors is None else {k: v[kept] for k, v in data.train_factors.items()},
    )
