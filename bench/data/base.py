"""What a data set is: a class that loads decoded arrays, split once and for all into train and test."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from typing import Any, ClassVar

import numpy as np

from bench.errors import BenchError, did_you_mean
from bench.space import Space


@dataclasses.dataclass(frozen=True)
class Data:
    """Decoded data in memory.

    train, test: images uint8 ``(N, H, W, C)``; vectors float32 ``(N, d)``; tokens int64 ``(N, L)``.
    train_labels, test_labels: int64 ``(N,)`` class indices into ``classes``, or None.
    classes: class names in index order, or ().
    train_factors, test_factors: optional named generative factors of each example (``{"shape": (N,) int64, ...}``).
    train_captions, test_captions: optional text for each example, in the order of the examples.
    truth: what is known of a synthetic set: an object with a closed-form density (``bench.data.mixtures.GaussianMixture``) or
        one that reads the factors off an image (``bench.data.shapes.SpriteTruth``); None for real data.
    """

    name: str
    space: Space
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    train_factors: dict[str, np.ndarray] | None = None
    test_factors: dict[str, np.ndarray] | None = None
    train_captions: tuple[str, ...] | None = None
    test_captions: tuple[str, ...] | None = None
    truth: Any = None

    def digest(self) -> str:
        """SHA-256 (hex) over shapes, dtypes and bytes of both splits and their labels, and over captions where there are any."""
        sha = hashlib.sha256()
        for array in (self.train, self.test, self.train_labels, self.test_labels):
            if array is None:
                sha.update(b"none")
                continue
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        for captions in (self.train_captions, self.test_captions):
            if captions is not None:
                sha.update("\0".join(captions).encode())
        return sha.hexdigest()


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a data set that has none."""


class Dataset(abc.ABC):
    """A source of data. A subclass sets the class attributes as literals: listings read them from the source text.

    licence, attribution: shown by ``bench list datasets`` and written into every record.
    paper: source of the data set, or "".
    Options: a frozen dataclass of JSON-serialisable options with defaults.
    """

    licence: ClassVar[str] = "unknown"
    attribution: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions

    def __init__(self, **options: Any) -> None:
        known = {field.name for field in dataclasses.fields(self.Options)}
        for key in options:
            if key not in known:
                raise BenchError(f"data set {type(self).__name__} has no option '{key}'; {did_you_mean(key, known)}")
        try:
            self.options: Any = self.Options(**options)
        except (TypeError, ValueError) as error:
            raise BenchError(f"data set {type(self).__name__}: {error}") from None

    @abc.abstractmethod
    def load(self) -> Data:
        """Decode everything into memory. Raises BenchError naming the file where an input is unusable."""
