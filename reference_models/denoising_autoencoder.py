"""Denoising autoencoder: restore the clean example from a damaged one; a mixture fitted on the latents makes it generate.

loss = |decode(encode(x damaged)) - x|^2
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bench.model import Batch, ImageSpace
from reference_models.autoencoder import Autoencoder
from reference_models.options import one_of
from reference_models.pixels import squared_error
from reference_models.schedules import set_learning_rate

CORRUPTIONS = ("gaussian", "masking")


class DenoisingAutoencoder(Autoencoder):
    """Autoencoder that learns to restore damaged examples; samples decode a Gaussian mixture fitted on the latents."""

    family = "autoencoder"
    paper = "Extracting and Composing Robust Features with Denoising Autoencoders, Vincent et al., ICML 2008"
    known_failures = (
        "It has no prior of its own: quality is that of the mixture fitted on the latents. Much corruption blurs what it "
        "restores, since many clean examples fit one damaged one."
    )

    @dataclasses.dataclass(frozen=True)
    class Config(Autoencoder.Config):
        """latent, width, components, learning_rate: as of the autoencoder; one component is a Gaussian prior.
        corruption: "gaussian" noise or "masking". strength: standard deviation of the noise, or share of values set to 0 (the
        middle grey)."""

        corruption: str = "gaussian"
        strength: float = 0.3

        def __post_init__(self) -> None:
            super().__post_init__()
            one_of(self, "corruption", CORRUPTIONS)
            if self.strength < 0 or (self.corruption == "masking" and self.strength >= 1):
                raise ValueError(f"strength must be at least 0, and below 1 for masking, got {self.strength}")

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        damaged = corrupt(batch.x, self.config.corruption, self.config.strength)
        pixels = isinstance(self.space, ImageSpace)
        loss = squared_error(self.decoder(self.encoder(damaged)), batch.x, pixels=pixels)
        self.descend(loss, self.optimizer)
        return {"mse": loss.detach()}


def corrupt(x: Tensor, corruption: str, strength: float) -> Tensor:
    """``(B, *shape)`` plus N(0, strength^2), or with a share ``strength`` of its values set to 0."""
    if corruption == "gaussian":
        return x + strength * torch.randn_like(x)
    return x * (torch.rand_like(x) >= strength)
