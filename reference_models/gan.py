"""Generative adversarial network of the DCGAN kind, with the losses and the stabilisers of ten years as switches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.adversarial import (
    LOSSES,
    advantage,
    differentiable_augmentation,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)
from reference_models.networks.build import decoder, encoder
from reference_models.options import at_least_one, one_of, positive

GRADIENT_PENALTY = 10.0  # weight, as in the paper
R1_EVERY = 16  # steps of the discriminator from one R1 penalty to the next ("lazy", StyleGAN2)


class GAN(GenerativeModel):
    """DCGAN: minimax, non-saturating, hinge, Wasserstein or least-squares loss; spectral norm, R1, DiffAugment, minibatch std."""

    family = "gan"
    paper = (
        "Generative Adversarial Networks, 2014, arXiv 1406.2661; DCGAN, 2015, arXiv 1511.06434; Spectral Normalization for "
        "GANs, 2018, arXiv 1802.05957; WGAN-GP, 2017, arXiv 1704.00028; LSGAN, 2016, arXiv 1611.04076"
    )
    known_failures = (
        "Mode collapse (few distinct samples), and with the minimax loss no gradient once the discriminator wins: its loss near "
        "0 and samples that stop changing. No likelihood and no encoder. After two minutes of one CPU core on MNIST at 32 "
        "pixels some seeds leave a faint grain, which ImageNet's features see: their Frechet distance is 21, 25 and 44."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of the noise. width: channels after the first halving.
        loss: "non-saturating", "minimax", "hinge", "wgan-gp" or "lsgan".
        spectral_norm: of every layer of the discriminator; None: all losses but "wgan-gp", which has its own penalty.
        r1: gamma of the R1 penalty, taken every 16th step; 0 switches it off.
        minibatch_std: show the discriminator how much a batch varies. augment: DiffAugment, for small sets of images.
        critic_steps: steps of the discriminator for one of the generator."""

        latent: int = 64
        width: int = 32
        loss: str = "non-saturating"
        spectral_norm: bool | None = None
        r1: float = 0.0
        minibatch_std: bool = False
        augment: bool = False
        critic_steps: int = 1
        generator_learning_rate: float = 1e-3
        discriminator_learning_rate: float = 1e-3

        def __post_init__(self) -> None:
            at_least_one(self, "latent", "width", "critic_steps")
            positive(self, "generator_learning_rate", "discriminator_learning_rate")
            one_of(self, "loss", LOSSES)
            if self.r1 < 0:
                raise ValueError(f"r1 must be 0 (off) or positive, got {self.r1}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        if c.augment and not isinstance(space, ImageSpace):
            raise BenchError(
                f"augment works on images, but the data set holds {space}; remove it from the model's config"
            )
        normalised = c.loss != "wgan-gp" if c.spectral_norm is None else c.spectral_norm
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if normalised else (lambda layer: layer)
        self.generator = decoder(space, c.latent, c.width, batch_norm=True)
        self.discriminator = encoder(space, 1, c.width, weights=wrap, minibatch_std=c.minibatch_std)
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), c.generator_learning_rate, betas=(0.5, 0.99), fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), c.discriminator_learning_rate, betas=(0.5, 0.99), fused=True
        )
        self.steps = 0  # of the discriminator
        self.last_generator_loss = torch.zeros(())

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the discriminator and, every ``critic_steps``-th time, one of the generator, on the same fakes."""
        generator_too = self.steps % self.config.critic_steps == 0
        with torch.set_grad_enabled(generator_too):
            fake = self.generate(torch.randn(len(batch), self.config.latent, device=batch.x.device))

        real_scores, fake_scores = self._scores(batch.x, fake.detach())
        d_loss = discriminator_loss(real_scores, fake_scores, self.config.loss)
        self.descend(d_loss + self.penalty(batch.x, fake), self.discriminator_optimizer)
        self.steps += 1

        if generator_too:
            self.discriminator.requires_grad_(False)
            g_loss = generator_loss(self.discriminate(fake), self.config.loss)
            self.descend(g_loss, self.generator_optimizer)
            self.discriminator.requires_grad_(True)
            self.last_generator_loss = g_loss.detach()
        return {
            "discriminator": d_loss.detach(),
            "generator": self.last_generator_loss,
            "advantage": advantage(real_scores, fake_scores),
        }

    def _scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Of real and fake examples, in one batch; apart where a layer compares the examples of a batch, which would mix them."""
        if self.config.minibatch_std:
            return self.discriminate(real), self.discriminate(fake)
        real_scores, fake_scores = self.discriminate(torch.cat([real, fake])).chunk(2)
        return real_scores, fake_scores

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """What keeps the discriminator's slope in bounds, 0-d: of the loss "wgan-gp", and R1 where it is switched on."""
        penalty = torch.zeros((), device=real.device)
        if self.config.loss == "wgan-gp":
            penalty = penalty + GRADIENT_PENALTY * gradient_penalty(self.discriminate, real, fake)
        if self.config.r1 > 0 and self.steps % R1_EVERY == 0:
            penalty = penalty + R1_EVERY * self.config.r1 / 2 * r1_penalty(self.discriminate, real)
        return penalty

    def discriminate(self, x: Tensor) -> Tensor:
        """``(B, *shape) -> (B, 1)`` scores; of augmented images where that is switched on."""
        return self.discriminator(differentiable_augmentation(x) if self.config.augment else x).float()

    def generate(self, z: Tensor) -> Tensor:
        """``(B, latent) -> (B, *shape)``; images in (-1, 1)."""
        x = self.generator(z).float()
        return x.tanh() if isinstance(self.space, ImageSpace) else x

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.generate(generator.randn(self.config.latent))
