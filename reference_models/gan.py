"""Generative adversarial network of the DCGAN kind: a generator and a spectrally normalised discriminator."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.build import decoder, encoder

LOSSES = ("non-saturating", "minimax", "hinge")


class GAN(GenerativeModel):
    """DCGAN with spectral normalisation: non-saturating, minimax or hinge loss."""

    family = "gan"
    paper = (
        "Generative Adversarial Networks, 2014, arXiv 1406.2661; DCGAN, 2015, arXiv 1511.06434; Spectral Normalization for "
        "GANs, 2018, arXiv 1802.05957"
    )
    known_failures = (
        "Mode collapse (few distinct samples), and with the minimax loss no gradient once the discriminator wins: its loss near "
        "0 and samples that stop changing. No likelihood and no encoder."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of the noise. width: channels after the first halving. loss: "non-saturating", "minimax" or "hinge"."""

        latent: int = 64
        width: int = 32
        loss: str = "non-saturating"
        generator_learning_rate: float = 1e-3
        discriminator_learning_rate: float = 1e-3

        def __post_init__(self) -> None:
            for name in ("latent", "width"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            for name in ("generator_learning_rate", "discriminator_learning_rate"):
                if getattr(self, name) <= 0:
                    raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
            if self.loss not in LOSSES:
                raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got '{self.loss}'")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        self.generator = decoder(space, c.latent, c.width, batch_norm=True)
        self.discriminator = encoder(space, 1, c.width, weights=spectral_norm)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), c.generator_learning_rate, betas=(0.5, 0.99), fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), c.discriminator_learning_rate, betas=(0.5, 0.99), fused=True
        )

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the discriminator, then one of the generator, on the same fakes."""
        fake = self.generate(torch.randn(len(batch), self.config.latent, device=batch.x.device))

        scores = self.discriminator(torch.cat([batch.x, fake.detach()])).float()
        real_scores, fake_scores = scores.chunk(2)
        d_loss = discriminator_loss(real_scores, fake_scores, self.config.loss)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)
        g_loss = generator_loss(self.discriminator(fake).float(), self.config.loss)
        self.generator_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        return {"discriminator": d_loss.detach(), "generator": g_loss.detach()}

    def generate(self, z: Tensor) -> Tensor:
        """``(B, latent) -> (B, *shape)``; images in (-1, 1)."""
        x = self.generator(z).float()
        return x.tanh() if isinstance(self.space, ImageSpace) else x

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.generate(generator.randn(self.config.latent))


def discriminator_loss(real: Tensor, fake: Tensor, loss: str) -> Tensor:
    """real, fake: scores (logits) ``(B, 1)``. Hinge: max(0, 1 - real) + max(0, 1 + fake); else the cross entropy."""
    if loss == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, loss: str) -> Tensor:
    """With D = sigmoid(score). Non-saturating: -log D(fake); minimax: log(1 - D(fake)); hinge: -score."""
    if loss == "hinge":
        return -fake.mean()
    return F.softplus(-fake).mean() if loss == "non-saturating" else -F.softplus(fake).mean()
