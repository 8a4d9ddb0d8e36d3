"""Autoencoder with a Gaussian mixture fitted on its latents: it has no prior of its own, so one is fitted after training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.conv import Decoder, encoder


class Autoencoder(GenerativeModel):
    """Convolutional autoencoder; samples come from a Gaussian mixture fitted on the training latents."""

    family = "autoencoder"
    paper = "Reducing the Dimensionality of Data with Neural Networks, 2006, Hinton & Salakhutdinov (Science 313)"
    known_failures = "With many mixture components and a wide bottleneck it comes close to copying training images."
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        latent: int = 16
        width: int = 32
        components: int = 10
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            for name in ("latent", "width", "components"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if self.learning_rate <= 0:
                raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        self.encoder = encoder(space, c.latent, c.width)
        self.decoder = Decoder(space, c.latent, c.width)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=c.learning_rate, fused=True)
        self.register_buffer("mixture_logits", torch.zeros(c.components))
        self.register_buffer("mixture_means", torch.zeros(c.components, c.latent))
        self.register_buffer("mixture_scales", torch.eye(c.latent).repeat(c.components, 1, 1))

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        loss = F.mse_loss(self.reconstruct(batch.x), batch.x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"mse": loss.detach()}

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """Expectation-maximisation in float64 on the latents of the whole training set."""
        from sklearn.mixture import GaussianMixture

        z = torch.cat([self.encode(batch.x) for batch in loader]).double().cpu().numpy()
        components = min(self.config.components, len(z))
        mixture = GaussianMixture(components, reg_covar=1e-4 * float(z.var()) + 1e-9, random_state=0).fit(z)
        self.mixture_logits.fill_(-math.inf)
        self.mixture_logits[:components].copy_(torch.as_tensor(mixture.weights_).log())
        self.mixture_means[:components].copy_(torch.as_tensor(mixture.means_))
        scales = torch.linalg.cholesky(torch.as_tensor(mixture.covariances_))
        self.mixture_scales[:components].copy_(scales)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        which = generator.categorical(self.mixture_logits.expand(n, -1))
        noise = generator.randn(self.config.latent, 1)
        z = self.mixture_means[which] + (self.mixture_scales[which] @ noise).squeeze(-1)
        return self.decode(z)
