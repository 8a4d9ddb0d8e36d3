"""Progressive growing: learn 4 x 4 images first, then fade in one doubling of the resolution after the other.

level 0, 1, 2 ... of 4, 8, 16 ... pixels; at level l + a (0 < a < 1) generator and discriminator are a blend of
(1 - a) times what they are at l and a times what they will be at l + 1, so that no step changes what is generated.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.adversarial import advantage, discriminator_loss, generator_loss, gradient_penalty, r1_penalty
from reference_models.networks.conv import halvings
from reference_models.networks.equalised import EqualisedConv2d, EqualisedLinear, MinibatchStd, PixelNorm
from reference_models.options import at_least_one

R1_EVERY = 16
GRADIENT_PENALTY, DRIFT = 10.0, 1e-3


class ProgressiveGAN(GenerativeModel):
    """Grows from 4x4 to the full resolution with fade-in; equalised learning rate, pixel norm, minibatch standard deviation."""

    family = "gan"
    paper = "Progressive Growing of GANs for Improved Quality, Stability, and Variation, 2017, arXiv 1710.10196"
    known_failures = (
        "The stages share the budget: with too little of it the last resolution is hardly trained. Details stick to fixed places, "
        "since every stage has to paint a finished image. After two minutes of one CPU core on MNIST at 32 pixels edges are "
        "rough and black is not quite black, so that no sample is near the data by ImageNet's features."
    )

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of the noise. width: channels at the full resolution; they double with each halving, up to 4 x width.
        loss: "wgan-gp" (the paper's) or "non-saturating" with R1. r1: gamma of R1. progressive: False trains the same
        networks at the full resolution from the start. last: share of the budget for the full resolution after it has faded in.
        """

        latent: int = 64
        width: int = 16
        loss: str = "non-saturating"
        r1: float = 0.1
        progressive: bool = True
        last: float = 0.4
        learning_rate: float = 4e-3

        def __post_init__(self) -> None:
            at_least_one(self, "latent", "width")
            if self.loss not in ("wgan-gp", "non-saturating"):
                raise ValueError(f"loss must be 'wgan-gp' or 'non-saturating', got '{self.loss}'")
            if self.r1 < 0 or self.learning_rate <= 0:
                raise ValueError(f"r1 must be >= 0 and learning_rate positive, got {self.r1} and {self.learning_rate}")
            if not 0 < self.last <= 1:
                raise ValueError(f"last must lie above 0 and at most at 1, got {self.last}")

    stage: Tensor

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        assert isinstance(space, ImageSpace)
        self.levels = halvings(space) + 1
        widths = [c.width * min(2 ** (self.levels - 1 - level), 4) for level in range(self.levels)]
        smallest = (space.height >> (self.levels - 1), space.width >> (self.levels - 1))
        self.generator = Generator(space.channels, c.latent, widths, smallest)
        self.discriminator = Discriminator(space.channels, widths, smallest)
        self.to(memory_format=torch.channels_last)
        self.generator_optimizer, self.discriminator_optimizer = (
            torch.optim.Adam(network.parameters(), c.learning_rate, betas=(0.0, 0.99), fused=True)
            for network in (self.generator, self.discriminator)
        )
        self.register_buffer(
            "stage", torch.tensor(1000 * (self.levels - 1))
        )  # the level reached, in thousandths; training sets it
        self.steps = 0

    def level_at(self, progress: float) -> float:
        """The level after a share of the budget, 0 ... levels - 1. Each change takes an equal part of the first
        ``1 - last`` of the budget: half of it trains the level as it is, half fades the next one in."""
        most = self.levels - 1
        if not self.config.progressive or most == 0 or self.config.last == 1:
            return float(most)
        position = progress / (1 - self.config.last) * most
        level = math.floor(position)
        return min(level + max(0.0, 2 * (position - level) - 1), float(most))

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the discriminator, one of the generator, at the level that the progress gives."""
        c, level = self.config, self.level_at(progress)
        self.stage.fill_(round(1000 * level))
        real = real_at(batch.x, level, self.levels)
        fake = self.generator(torch.randn(len(batch), c.latent, device=batch.x.device), level).float()

        def discriminate(x: Tensor) -> Tensor:
            return self.discriminator(x, level).float()

        real_scores, fake_scores = discriminate(real), discriminate(fake.detach())
        d_loss = discriminator_loss(real_scores, fake_scores, c.loss)
        penalty = torch.zeros_like(d_loss)
        if c.loss == "wgan-gp":
            penalty = (
                GRADIENT_PENALTY * gradient_penalty(discriminate, real, fake) + DRIFT * real_scores.square().mean()
            )
        elif c.r1 > 0 and self.steps % R1_EVERY == 0:
            penalty = R1_EVERY * c.r1 / 2 * r1_penalty(discriminate, real)
        self.descend(d_loss + penalty, self.discriminator_optimizer)

        self.discriminator.requires_grad_(False)
        g_loss = generator_loss(discriminate(fake), c.loss)
        self.descend(g_loss, self.generator_optimizer)
        self.discriminator.requires_grad_(True)
        self.steps += 1
        return {
            "discriminator": d_loss.detach(),
            "generator": g_loss.detach(),
            "advantage": advantage(real_scores, fake_scores),
        }

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Images of the level reached, enlarged to the full resolution where training ended before it."""
        x = self.generator(generator.randn(self.config.latent), float(self.stage) / 1000).float()
        assert isinstance(self.space, ImageSpace)
        if x.shape[-1] < self.space.width:
            x = F.interpolate(x, size=(self.space.height, self.space.width))
        return x


class Generator(nn.Module):
    """``(B, latent), level -> (B, channels, h, w)`` at the resolution of ``ceil(level)``, in (-1, 1).

    The paper's images are linear; a tanh, as in DCGAN, reaches plain black and white sooner.

    widths: channels at each level, smallest resolution first. smallest: (h, w) of level 0.
    """

    def __init__(self, channels: int, latent: int, widths: list[int], smallest: tuple[int, int]) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            PixelNorm(),
            EqualisedLinear(latent, widths[0] * smallest[0] * smallest[1]),
            nn.Unflatten(1, (widths[0], *smallest)),
            nn.LeakyReLU(0.2),
            PixelNorm(),
            *hidden(widths[0], widths[0]),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), *hidden(before, after), *hidden(after, after))
            for before, after in pairwise(widths)
        )
        self.images = nn.ModuleList(nn.Sequential(EqualisedConv2d(width, channels, 1), nn.Tanh()) for width in widths)

    def forward(self, z: Tensor, level: float) -> Tensor:
        x, before = self.enter(z), None
        top = math.ceil(level)
        for index in range(top):
            before, x = x, self.blocks[index](x)
        image = self.images[top](x)
        alpha = level - (top - 1)
        if before is not None and alpha < 1:
            image = torch.lerp(enlarge(self.images[top - 1](before)), image, alpha)
        return image


class Discriminator(nn.Module):
    """``(B, channels, h, w) at the resolution of ceil(level), level -> (B, 1)`` scores: the generator's mirror image."""

    def __init__(self, channels: int, widths: list[int], smallest: tuple[int, int]) -> None:
        super().__init__()
        self.images = nn.ModuleList(
            nn.Sequential(EqualisedConv2d(channels, width, 1), nn.LeakyReLU(0.2)) for width in widths
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                EqualisedConv2d(before, before, 3),
                nn.LeakyReLU(0.2),
                EqualisedConv2d(before, after, 3),
                nn.LeakyReLU(0.2),
                nn.AvgPool2d(2),
            )
            for after, before in pairwise(widths)
        )
        self.leave = nn.Sequential(
            MinibatchStd(),
            EqualisedConv2d(widths[0] + 1, widths[0], 3),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            EqualisedLinear(widths[0] * smallest[0] * smallest[1], widths[0]),
            nn.LeakyReLU(0.2),
            EqualisedLinear(widths[0], 1),
        )

    def forward(self, image: Tensor, level: float) -> Tensor:
        top = math.ceil(level)
        x = self.images[top](image)
        for index in reversed(range(top)):
            x = self.blocks[index](x)
            alpha = level - (top - 1)
            if index == top - 1 and alpha < 1:
                x = torch.lerp(self.images[index](F.avg_pool2d(image, 2)), x, alpha)
        return self.leave(x)


def hidden(before: int, after: int) -> tuple[nn.Module, ...]:
    """Convolution, leaky ReLU, pixel norm."""
    return EqualisedConv2d(before, after, 3), nn.LeakyReLU(0.2), PixelNorm()


def enlarge(x: Tensor) -> Tensor:
    """Every pixel becomes 2 x 2."""
    return F.interpolate(x, scale_factor=2)


def real_at(x: Tensor, level: float, levels: int) -> Tensor:
    """Real images ``(B, C, H, W)`` as the discriminator sees them at ``level``: shrunk, and blended while one fades in."""
    top = math.ceil(level)
    x = F.avg_pool2d(x, 2 ** (levels - 1 - top))
    alpha = level - (top - 1)
    return x if top == 0 or alpha >= 1 else torch.lerp(enlarge(F.avg_pool2d(x, 2)), x, alpha)
