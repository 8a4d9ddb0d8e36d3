"""Classifier-free guidance: one network with and without the condition, sampled beyond their difference.

guided = without + guidance_scale (with - without)

"Classifier-Free Diffusion Guidance", 2022, arXiv 2207.12598.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reference_models.forward_process import STEPS, ProcessConfig
from reference_models.networks.build import DenoiserConfig
from reference_models.options import between, one_of, positive
from reference_models.samplers import DIFFUSION_SAMPLERS, Schedule, network_evaluations

GOLDEN = 0.6180339887498949


@dataclasses.dataclass(frozen=True)
class GuidedConfig(ProcessConfig, DenoiserConfig):
    """drop: share of training conditions left out. guidance_scale: 0 ignores the condition, 1 is no guidance; any other scale takes
    two evaluations per step. sampler, steps: see ``sample_diffusion``."""

    learning_rate: float = 5e-3
    drop: float = 0.1
    guidance_scale: float = 1.5
    sampler: str = "ddim"
    steps: int = 25

    def __post_init__(self) -> None:
        ProcessConfig.__post_init__(self)
        DenoiserConfig.__post_init__(self)
        positive(self, "learning_rate")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must lie in [0, 1), got {self.drop}")
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must not be negative, got {self.guidance_scale}")
        one_of(self, "sampler", DIFFUSION_SAMPLERS)
        between(self, 1, STEPS, "steps")

    def evaluations(self, alpha_bar: Schedule) -> int:
        """Of the network, for one sample; the two of a guided step are counted both."""
        passes = 1 if self.guidance_scale in (0, 1) else 2
        return passes * network_evaluations(self.sampler, self.steps, alpha_bar)


def spread(indices: Tensor) -> Tensor:
    """float64 in [0, 1) for each index: the golden-ratio sequence, of which every run of indices is evenly spread."""
    return ((indices.double() + 0.5) * GOLDEN) % 1.0


def guided(
    network: Callable[..., Tensor],
    x: Tensor,
    t: float,
    given: Sequence[Tensor],
    nothing: Sequence[Tensor],
    scale: float,
    *,
    pixels: bool,
) -> Tensor:
    """float32 prediction ``network(x, times, *condition)``, guided from ``nothing`` towards ``given``; both passes in one batch.

    pixels: it is one of pixels, to be clipped: how far beyond black two predictions lie says nothing, and their difference would become grain.
    """
    times = torch.full((len(x),), t, device=x.device)
    if scale in (0, 1):
        return network(x, times, *(given if scale == 1 else nothing)).float()
    both = (torch.cat(pair) for pair in zip(given, nothing, strict=True))
    with_it, without = network(x.repeat(2, *[1] * (x.ndim - 1)), times.repeat(2), *both).float().chunk(2)
    if pixels:
        with_it, without = with_it.clamp(-1, 1), without.clamp(-1, 1)
    return without + scale * (with_it - without)
