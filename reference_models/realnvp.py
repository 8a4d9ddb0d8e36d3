"""RealNVP: affine couplings. Half of the values stay, the other half is scaled and shifted by what a network makes of the first."""

from __future__ import annotations

from typing import ClassVar

from bench.model import ImageSpace
from reference_models.networks.invertible import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    Coupling,
    alternating,
    checkerboard,
    halves,
)
from reference_models.normalizing_flow import FlowConfig, MakeNet, NormalizingFlow


class RealNVP(NormalizingFlow):
    """Normalizing flow of affine couplings with checkerboard and channel masks, on several scales."""

    family = "flow"
    paper = "Density estimation using Real NVP, 2016, arXiv 1605.08803; activation normalisation: Glow, 2018, arXiv 1807.03039"
    known_failures = (
        "Affine couplings stretch one blob: between separate modes they leave thin bridges of samples. On images, strokes and sharp local "
        "texture come first and global shape late: after two minutes of one CPU core on MNIST at 32 pixels many samples are pieces of "
        "digits. A single batch can cost millions of bits before the scales have settled; gradients are clipped."
    )
    Config: ClassVar[type] = FlowConfig

    def level(self, channels: int, layers: int, net: MakeNet) -> Chain:
        """First half of the couplings with checkerboards, second half with blocks of channels; masks take turns."""
        chain: list[Bijection] = []
        for index in range(layers):
            mask = self._mask(channels, index, layers)
            kept = sum(mask)
            chain += [ActNorm(channels), Coupling(mask, net(kept, 2 * (channels - kept)), Affine())]
        return Chain(chain)

    def _mask(self, channels: int, index: int, layers: int) -> list[bool]:
        if not isinstance(self.space, ImageSpace):
            return alternating(channels, index % 2)
        return (checkerboard if 2 * index < layers else halves)(channels, index % 2)
