"""Neural spline flow: couplings that bend each value by a spline, and so can pull one blob apart into many modes."""

from __future__ import annotations

import dataclasses

from bench.model import ImageSpace
from reference_models.networks.invertible import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    Mixing,
    Spline,
    alternating,
    halves,
)
from reference_models.networks.spline import SMALLEST
from reference_models.normalizing_flow import FlowConfig, MakeNet, NormalizingFlow
from reference_models.options import positive


class SplineFlow(NormalizingFlow):
    """Normalizing flow of rational-quadratic spline couplings."""

    family = "flow"
    paper = "Neural Spline Flows, 2019, arXiv 1906.04032"
    known_failures = (
        "Outside its interval a spline is the identity: far outliers are modelled as Gaussian. On images global shape comes late: after "
        "two minutes of one CPU core on MNIST at 32 pixels some samples are digits, others strokes in no order."
    )
    default_layers = (4, 4)
    default_components = (1, 1)
    split_priors = True

    @dataclasses.dataclass(frozen=True)
    class Config(FlowConfig):
        """bins: pieces of each spline, None: chosen from the space. bound: splines act on [-bound, bound]."""

        bins: int | None = None
        bound: float = 4.0

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.bins is not None and not 2 <= self.bins <= 0.1 / SMALLEST:
                raise ValueError(f"bins must lie in 2 ... {0.1 / SMALLEST:.0f}, got {self.bins}")
            positive(self, "bound")

    def level(self, channels: int, layers: int, net: MakeNet) -> Chain:
        """Images: couplings between 1 x 1 convolutions. Vectors: masks take turns, without mixing, which would blur the modes."""
        is_image = isinstance(self.space, ImageSpace)
        spline = Spline(self.config.bins or (4 if is_image else 64), self.config.bound)
        chain: list[Bijection] = []
        for index in range(layers):
            mask = halves(channels, 0) if is_image else alternating(channels, index % 2)
            kept = sum(mask)
            chain += [ActNorm(channels)] if is_image or index == 0 else []
            chain += [Mixing(channels)] if is_image else []
            chain.append(Coupling(mask, net(kept, spline.size * (channels - kept)), spline))
        return Chain(chain)
