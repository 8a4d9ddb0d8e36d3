"""What a model generates: the shape of one sample. Imports nothing heavy, so that listings stay fast."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class ImageSpace:
    """Images. Inside models float32 NCHW in [-1, 1]; in data sets and sample sets uint8 NHWC."""

    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    @property
    def dimensions(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.channels} images"


@dataclass(frozen=True)
class TokenSpace:
    """Sequences of ``length`` int64 tokens in [0, vocabulary)."""

    vocabulary: int
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def dimensions(self) -> int:
        return self.length

    def __str__(self) -> str:
        return f"sequences of {self.length} tokens out of {self.vocabulary}"


@dataclass(frozen=True)
class VectorSpace:
    """Points in R^d, float32, scaled by the data set to about unit variance (2-D mixtures, tables)."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def dimensions(self) -> int:
        return self.size

    def __str__(self) -> str:
        return f"{self.size}-d vectors"


Space = ImageSpace | TokenSpace | VectorSpace
