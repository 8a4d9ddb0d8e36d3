"""Generative adversarial network: DCGAN-like, spectral normalisation in the discriminator, non-saturating loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.conv import Decoder, encoder

LOSSES = ("non-saturating", "minimax", "hinge")


class GAN(GenerativeModel):
    """DCGAN with spectral normalisation in the discriminator and the non-saturating loss."""

    family = "gan"
    paper = "Generative Adversarial Networks, 2014, arXiv 1406.2661; DCGAN, 2015, arXiv 1511.06434; SN-GAN, 2018, arXiv 1802.05957"
    known_failures = "Mode collapse and oscillation when one player gets ahead; the minimax loss saturates early."
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        latent: int = 64
        generator_width: int = 32
        discriminator_width: int = 32
        loss: str = "non-saturating"
        spectral_norm: bool = True
        generator_learning_rate: float = 1e-3
        discriminator_learning_rate: float = 1e-3
        beta1: float = 0.5

        def __post_init__(self) -> None:
            if self.loss not in LOSSES:
                raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got '{self.loss}'")
            for name in ("latent", "generator_width", "discriminator_width"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        wrap = spectral_norm if c.spectral_norm else (lambda layer: layer)
        self.generator = nn.Sequential(Decoder(space, c.latent, c.generator_width))
        if isinstance(space, ImageSpace):
            self.generator.append(nn.Tanh())
        self.discriminator = encoder(space, 1, c.discriminator_width, norm=False, wrap=wrap)
        betas = (c.beta1, 0.99)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), c.generator_learning_rate, betas, fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), c.discriminator_learning_rate, betas, fused=True
        )

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the discriminator, then one of the generator, on one batch of noise."""
        z = torch.randn(len(batch), self.config.latent, device=batch.x.device)
        fake = self.generator(z)

        real_score, fake_score = self.discriminator(batch.x), self.discriminator(fake.detach())
        discriminator_loss = self.discriminator_loss(real_score, fake_score)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)
        generator_loss = self.generator_loss(self.discriminator(fake))
        self.generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        return {
            "generator": generator_loss.detach(),
            "discriminator": discriminator_loss.detach(),
            "real_score": real_score.detach().mean(),
            "fake_score": fake_score.detach().mean(),
        }

    def discriminator_loss(self, real_score: Tensor, fake_score: Tensor) -> Tensor:
        """Scores are logits of "real"."""
        if self.config.loss == "hinge":
            return F.relu(1 - real_score).mean() + F.relu(1 + fake_score).mean()
        return F.softplus(-real_score).mean() + F.softplus(fake_score).mean()

    def generator_loss(self, fake_score: Tensor) -> Tensor:
        """minimax: E log(1 - D(G(z))), which saturates; non-saturating: -E log D(G(z)); hinge: -E score."""
        match self.config.loss:
            case "minimax":
                return -F.softplus(fake_score).mean()
            case "hinge":
                return -fake_score.mean()
            case _:
                return F.softplus(-fake_score).mean()

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.generator(generator.randn(self.config.latent))
