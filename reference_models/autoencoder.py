"""Autoencoder with a fitted prior: squeeze and restore, then fit a Gaussian mixture on the latents and sample from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.gaussian_mixture import GaussianMixture
from reference_models.networks.build import decoder, encoder
from reference_models.options import at_least_one, positive
from reference_models.pixels import squared_error
from reference_models.schedules import set_learning_rate


class Autoencoder(GenerativeModel):
    """Convolutional autoencoder; samples decode a Gaussian mixture that is fitted on the training latents."""

    family = "autoencoder"
    paper = "Reducing the Dimensionality of Data with Neural Networks, Hinton and Salakhutdinov, Science 313, 2006"
    known_failures = (
        "It has no prior of its own: quality is that of the mixture. With many components and few training images, samples "
        "come close to copies of them. Samples are blurred."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of the code. width: channels after the first halving. components: of the Gaussian mixture."""

        latent: int = 16
        width: int = 32
        components: int = 10
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            at_least_one(self, "latent", "width", "components")
            positive(self, "learning_rate")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        latent, width = self.config.latent, self.config.width
        self.encoder = encoder(space, latent, width)
        self.decoder = decoder(space, latent, width)
        self.prior = GaussianMixture(self.config.components, latent)
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        self.optimizer = torch.optim.Adam(self.parameters(), fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        pixels = isinstance(self.space, ImageSpace)
        loss = squared_error(self.decoder(self.encoder(batch.x)), batch.x, pixels=pixels)
        self.descend(loss, self.optimizer)
        return {"mse": loss.detach()}

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        self.prior.fit(torch.cat([self.encode(batch.x) for batch in loader]))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.decode(self.prior.sample(generator))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).float()

    def decode(self, z: Tensor) -> Tensor:
        x = self.decoder(z).float()
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
