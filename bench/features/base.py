"""What an extractor is: samples in, named feature layers out, one pass for all metrics."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from torch import Tensor


class Extractor(abc.ABC):
    """A frozen network that turns images into feature vectors. Literal class attributes are read by listings.

    layers: name of each layer it gives -> its width. A layer named ``logits`` holds class scores.
    version: identifies everything that changes a number: weights hash, resize mode, input size, normalisation. It is hashed
        into cache keys and written into records; two features with different versions are never compared.
    fingerprint, mode: the parts of ``version`` that say which weights (beginning of a hash) and which resizing; None where an
        extractor has none.
    precision: of the network's arithmetic; what it gives is float32.
    uncacheable: why ``version`` may not tell two such extractors apart, so that nothing is cached; None where it does.
    """

    paper: ClassVar[str] = ""
    licence: ClassVar[str] = ""

    name: str
    layers: dict[str, int]
    version: str
    fingerprint: str | None = None
    mode: str | None = None
    precision: str = "float32"
    uncacheable: str | None = None

    @abc.abstractmethod
    def to(self, device: torch.device) -> Extractor:
        """Move the network; returns self."""

    @abc.abstractmethod
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """images: uint8 ``(B, H, W, C)`` with C 1 or 3, on the extractor's device -> layer name -> float32 ``(B, width)``."""
