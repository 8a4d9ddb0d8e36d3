"""From decoded images of a user to ``Data``: one size, two sides that are not empty, labels that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.data.base import Data
from bench.errors import BenchError
from bench.space import ImageSpace


def image_data(
    name: str,
    where: str,
    images: np.ndarray | list[np.ndarray],
    name_of: Callable[[int], str],
    sides: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
) -> Data:
    """``Data`` of uint8 images and their (train, test) indices.

    where: the path, for messages. name_of: what to call image ``i`` in a message. labels: ``(N,)`` int64 or None.
    Raises BenchError where sizes differ or where a side is empty.
    """
    if isinstance(images, list):
        odd = _odd_one(images)
        raise BenchError(
            f"{name_of(odd)} has {_size(images[odd])} pixels but {name_of(0)} has {_size(images[0])}; "
            "set the option resolution to crop and resize all images to one square size"
        )
    train, test = sides
    if not len(train) or not len(test):
        side = "test" if len(train) else "training"
        raise BenchError(
            f"{where} holds {len(images)} images and none of them falls on the {side} side of the split; "
            "add images, or change the option test_share"
        )
    _, height, width, channels = images.shape
    return Data(
        name=name,
        space=ImageSpace(channels, height, width),
        train=images[train],
        test=images[test],
        train_labels=None if labels is None else labels[train],
        test_labels=None if labels is None else labels[test],
        classes=classes,
    )


def _odd_one(images: Sequence[np.ndarray]) -> int:
    """Index of the first image whose height or width differs from the first one's."""
    return next(i for i, image in enumerate(images) if image.shape[:2] != images[0].shape[:2])


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
