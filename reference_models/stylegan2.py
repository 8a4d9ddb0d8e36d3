"""StyleGAN2 in plain PyTorch: a mapping network turns noise into a style, and the style scales the weights of every convolution.

z -> mapping -> w;   constant -> [modulated convolutions by w, plus noise] at 4, 8, 16 ... pixels -> sum of each level's image
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.adversarial import (
    advantage,
    differentiable_augmentation,
    differentiable_twice,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from reference_models.networks.conv import halvings
from reference_models.networks.equalised import Blur, EqualisedConv2d, EqualisedLinear, MinibatchStd, PixelNorm
from reference_models.options import at_least_one, between, positive

R1_EVERY, PATH_EVERY = 16, 8  # steps between two penalties ("lazy regularisation", 3.1)
PATH_DECAY = 0.01  # of the running mean of path lengths
MEAN_STYLE_DECAY = 0.01
MAPPING_SPEED = 0.1  # of learning; the paper's 0.01 is for runs a thousand times as long
Noise = Callable[[int, int], Tensor]
"""``(height, width) -> (B, 1, height, width)``, a fresh standard normal draw at each call."""


class StyleGAN2(GenerativeModel):
    """Mapping network, modulated convolutions, path-length regularisation, lazy R1, truncation; the style space W is open."""

    family = "gan"
    paper = "Analyzing and Improving the Image Quality of StyleGAN, 2019, arXiv 1912.04958"
    known_failures = (
        "On few images the discriminator learns them by heart and quality falls again (switch augment on). Truncation trades "
        "variety for typical samples. Four times the work of a DCGAN a step: after two minutes of one CPU core on MNIST at 32 "
        "pixels strokes that do not meet and white patches beside digits (KID by a classifier of digits 0.06, 0.13 and 0.15; of the GAN 0.02)."
    )

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of z and w. width: channels at the full resolution; they double with each halving, up to 4 x width.
        mapping: layers of the mapping network. r1: gamma of R1. path_length: weight of that penalty, 0 for none: in
        trainings of minutes it holds the generator back, and the samples collapse.
        truncation: psi of sampling, w = mean + psi (w - mean); 1 leaves w as it is. augment: DiffAugment."""

        latent: int = 64
        width: int = 16
        mapping: int = 2
        r1: float = 0.1
        path_length: float = 0.0
        truncation: float = 1.0
        augment: bool = False
        learning_rate: float = 3e-3

        def __post_init__(self) -> None:
            at_least_one(self, "latent", "width", "mapping")
            for name in ("r1", "path_length"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} must be 0 (off) or positive, got {getattr(self, name)}")
            between(self, 0, 1, "truncation")
            positive(self, "learning_rate")

    mean_style: Tensor
    mean_path: Tensor

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        assert isinstance(space, ImageSpace)
        levels = halvings(space) + 1
        widths = [c.width * min(2 ** (levels - 1 - level), 4) for level in range(levels)]
        smallest = (space.height >> (levels - 1), space.width >> (levels - 1))
        self.mapping = mapping_network(c.latent, c.mapping)
        self.synthesis = Synthesis(space.channels, c.latent, widths, smallest)
        self.discriminator = Discriminator(space.channels, widths, smallest)
        self.to(memory_format=torch.channels_last)
        self.register_buffer("mean_style", torch.zeros(c.latent))
        self.register_buffer("mean_path", torch.zeros(()))
        generator = [*self.mapping.parameters(), *self.synthesis.parameters()]
        self.generator_optimizer = lazy_adam(generator, c.learning_rate, PATH_EVERY if c.path_length else 0)
        self.discriminator_optimizer = lazy_adam(
            self.discriminator.parameters(), c.learning_rate, R1_EVERY if c.r1 else 0
        )
        self.steps = 0

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the discriminator, one of the generator; every so often their penalties, as steps of their own."""
        z = torch.randn(len(batch), self.config.latent, device=batch.x.device)
        w = self.mapping(z).float()
        self.mean_style.lerp_(w.detach().mean(0), max(MEAN_STYLE_DECAY, 1 / (self.steps + 1)))  # a plain mean at first
        fake = self.synthesise(w, training_noise(w))

        real_scores, fake_scores = self.discriminate(batch.x), self.discriminate(fake.detach())
        d_loss = discriminator_loss(real_scores, fake_scores, "non-saturating")
        self.descend(d_loss, self.discriminator_optimizer)
        if self.config.r1 > 0 and self.steps % R1_EVERY == 0:
            penalty = r1_penalty(self.discriminate, batch.x)
            self.descend(R1_EVERY * self.config.r1 / 2 * penalty, self.discriminator_optimizer)

        self.discriminator.requires_grad_(False)
        g_loss = generator_loss(self.discriminate(fake), "non-saturating")
        self.descend(g_loss, self.generator_optimizer)
        self.discriminator.requires_grad_(True)
        if self.config.path_length > 0 and self.steps % PATH_EVERY == 0:
            penalty = self.path_penalty(max(1, len(batch) // 2))
            self.descend(PATH_EVERY * self.config.path_length * penalty, self.generator_optimizer)
        self.steps += 1
        return {
            "discriminator": d_loss.detach(),
            "generator": g_loss.detach(),
            "advantage": advantage(real_scores, fake_scores),
        }

    @property
    def latent(self) -> int:
        """Size of z and w."""
        size: int = self.config.latent
        return size

    def path_penalty(self, n: int) -> Tensor:
        """Mean over ``n`` styles of (path length - its running mean)^2 (equation 4)."""
        with differentiable_twice():
            w = self.mapping(torch.randn(n, self.config.latent, device=self.mean_style.device)).float()
            images = self.synthesise(w, training_noise(w))
            lengths = path_lengths(images, w, torch.randn_like(images))
        seen = (
            self.steps // PATH_EVERY + 1
        )  # a plain mean at first: one that began at 0 would draw the images to where w says nothing
        self.mean_path.lerp_(lengths.detach().mean(), max(PATH_DECAY, 1 / seen))
        return (lengths - self.mean_path).square().mean()

    def discriminate(self, x: Tensor) -> Tensor:
        """``(B, *shape) -> (B, 1)`` scores; of augmented images where that is switched on."""
        return self.discriminator(differentiable_augmentation(x) if self.config.augment else x).float()

    def style(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z ``(B, latent)`` -> w ``(B, latent)``, pulled to the mean style by ``truncation`` (psi)."""
        return torch.lerp(self.mean_style, self.mapping(z).float(), truncation)

    def synthesise(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        """w ``(B, latent)`` -> images ``(B, *shape)`` in (-1, 1); without ``noise`` its mean, 0, stands for it.

        The paper's images are linear; a tanh, as in DCGAN, reaches plain black and white sooner."""
        return self.synthesis(w, noise).float().tanh()

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        w = self.style(generator.randn(self.config.latent), options.get("truncation", self.config.truncation))
        return self.synthesise(w, lambda height, width: generator.randn(1, height, width))


def mapping_network(latent: int, depth: int) -> nn.Sequential:
    """z -> w, each ``(B, latent)``: pixel norm, then linear layers that learn at a tenth of the speed."""
    layers: list[nn.Module] = [PixelNorm()]
    for _ in range(depth):
        layers += [EqualisedLinear(latent, latent, multiplier=MAPPING_SPEED), Activation()]
    return nn.Sequential(*layers)


class Activation(nn.Module):
    """Leaky ReLU times sqrt(2), which keeps the variance."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2).mul_(math.sqrt(2))


class ModulatedConv2d(nn.Module):
    """A convolution whose weights are scaled by a style per input channel, then normalised per output channel.

    Weights of one example: w'_oik = s_i w_oik, w''_oik = w'_oik / sqrt(sum_ik w'_oik^2 + 1e-8) (equations 1 and 3). Convolution is
    linear, so scaling the input channels by s before it and the output channels after it gives the same, for a whole batch with
    one set of weights. double: doubles the size (transposed convolution of stride 2, then the blur).
    """

    def __init__(
        self, inputs: int, outputs: int, latent: int, kernel: int = 3, *, demodulate: bool = True, double: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.style = EqualisedLinear(latent, inputs, bias=1.0)
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2
        self.demodulate = demodulate
        self.blur = Blur(gain=4.0) if double else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: ``(B, inputs, H, W)``; w: ``(B, latent)``."""
        style, weight = self.style(w), self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        if self.blur is not None:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if not self.demodulate:
            return x
        return x * (energy_of(style, weight) + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)


def energy_of(style: Tensor, weight: Tensor) -> Tensor:
    """The squared length of each output's weights ``(outputs, inputs, k, k)`` once modulated by ``style`` ``(B, inputs)``, ``(B, outputs)``;
    in float32 under autocast, too."""
    with torch.autocast(style.device.type, enabled=False):
        return style.float().square() @ weight.float().square().sum((2, 3)).T


class StyledLayer(nn.Module):
    """Modulated convolution, noise of a learned strength, bias, activation."""

    def __init__(self, inputs: int, outputs: int, latent: int, *, double: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, latent, double=double)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.activation = Activation()

    def forward(self, x: Tensor, w: Tensor, noise: Noise | None) -> Tensor:
        x = self.conv(x, w)
        if noise is not None:
            x = x + self.strength * noise(x.shape[2], x.shape[3])
        return self.activation(x + self.bias)


class Synthesis(nn.Module):
    """``(B, latent) -> (B, channels, H, W)``: each level adds its own image to the enlarged one of the level below.

    widths: channels of each level, smallest resolution first. smallest: (h, w) of the first level.
    """

    def __init__(self, channels: int, latent: int, widths: list[int], smallest: tuple[int, int]) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, widths[0], *smallest))
        self.first = StyledLayer(widths[0], widths[0], latent)
        steps = list(pairwise(widths))
        self.grow = nn.ModuleList(StyledLayer(before, after, latent, double=True) for before, after in steps)
        self.refine = nn.ModuleList(StyledLayer(after, after, latent) for _, after in steps)
        self.images = nn.ModuleList(ModulatedConv2d(width, channels, latent, 1, demodulate=False) for width in widths)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, w: Tensor, noise: Noise | None) -> Tensor:
        x = self.first(self.constant.expand(len(w), -1, -1, -1), w, noise)
        image = self.images[0](x, w)
        for grow, refine, to_image in zip(self.grow, self.refine, self.images[1:]):
            x = refine(grow(x, w, noise), w, noise)
            image = F.interpolate(image, scale_factor=2, mode="bilinear") + to_image(x, w)
        return image + self.bias


class Discriminator(nn.Module):
    """``(B, channels, H, W) -> (B, 1)`` scores: residual blocks that halve the size, minibatch std at the end."""

    def __init__(self, channels: int, widths: list[int], smallest: tuple[int, int]) -> None:
        super().__init__()
        self.enter = nn.Sequential(EqualisedConv2d(channels, widths[-1], 1), Activation())
        self.blocks = nn.ModuleList(Halving(before, after) for after, before in reversed(list(pairwise(widths))))
        self.leave = nn.Sequential(
            MinibatchStd(),
            EqualisedConv2d(widths[0] + 1, widths[0], 3),
            Activation(),
            nn.Flatten(),
            EqualisedLinear(widths[0] * smallest[0] * smallest[1], widths[0]),
            Activation(),
            EqualisedLinear(widths[0], 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


class Halving(nn.Module):
    """Two convolutions beside a skip connection, both ways halved; their sum divided by sqrt(2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            EqualisedConv2d(before, before, 3),
            Activation(),
            Blur(stride=2),
            EqualisedConv2d(before, after, 3),
            Activation(),
        )
        self.skip = nn.Sequential(Blur(stride=2), EqualisedConv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.skip(x)) / math.sqrt(2)


def path_lengths(images: Tensor, w: Tensor, direction: Tensor) -> Tensor:
    """|J^T y| for the Jacobian J = d images / d w of each example, ``(B,)``; differentiable.

    images: ``(B, C, H, W)`` computed from w ``(B, latent)``. direction: y, standard normal of the images' shape; it is scaled by
    1 / sqrt(H W), so that lengths do not grow with the resolution.
    """
    scaled = direction / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), w, create_graph=True)
    return (gradient.square().sum(1) + 1e-12).sqrt()


def training_noise(w: Tensor) -> Noise:
    return lambda height, width: torch.randn(len(w), 1, height, width, device=w.device)


def lazy_adam(parameters: Any, learning_rate: float, every: int) -> torch.optim.Adam:
    """Adam whose rate and memory are corrected for one more step of a penalty after every ``every`` steps (3.1, appendix B)."""
    ratio = every / (every + 1) if every else 1.0
    return torch.optim.Adam(parameters, learning_rate * ratio, betas=(0.0, 0.99**ratio), fused=True)
