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
    """

    paper: ClassVar[str] = ""
    licence: ClassVar[str] = ""

    name: str
    layers: dict[str, int]
    version: str

    @abc.abstractmethod
    def to(self, device: torch.device) -> Extractor:
        """Move the network; returns self."""

    @abc.abstractmethod
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """images: uint8 ``(B, H, W, C)`` with C 1 or 3, on the extractor's device -> layer name -> float32 ``(B, width)``."""
