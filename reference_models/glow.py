"""Glow: between affine couplings a learned 1 x 1 convolution mixes all channels, so that no mask has to be chosen."""

from __future__ import annotations

from typing import ClassVar

from reference_models.networks.invertible import ActNorm, Affine, Bijection, Chain, Coupling, Mixing, halves
from reference_models.normalizing_flow import FlowConfig, MakeNet, NormalizingFlow


class Glow(NormalizingFlow):
    """Normalizing flow of activation norms, invertible 1x1 convolutions (by LU) and affine couplings, with learned split priors."""

    family = "flow"
    paper = "Glow: Generative Flow with Invertible 1x1 Convolutions, 2018, arXiv 1807.03039"
    known_failures = (
        "Bridges of samples between separate modes. On images global shape comes late: after two minutes of one CPU core on MNIST at 32 "
        "pixels some samples are digits, others strokes in no order, a few nearly black. A high likelihood does not mean good samples, "
        "nor the reverse."
    )
    Config: ClassVar[type] = FlowConfig
    split_priors = True

    def level(self, channels: int, layers: int, net: MakeNet) -> Chain:
        chain: list[Bijection] = []
        for _ in range(layers):
            mask = halves(channels, 0)
            kept = sum(mask)
            coupling = Coupling(mask, net(kept, Affine.size * (channels - kept)), Affine())
            chain += [ActNorm(channels), Mixing(channels), coupling]
        return Chain(chain)
