"""Latent diffusion: an autoencoder makes small latent maps of the images, a diffusion learns those. The Stable Diffusion recipe.

The first part of the budget trains the autoencoder, the rest the denoiser on its frozen latents, scaled to unit variance.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.forward_process import STEPS, ForwardProcess, ProcessConfig
from reference_models.networks.build import DenoiserConfig, unet
from reference_models.options import at_least_one, between, one_of, positive
from reference_models.pixels import squared_error
from reference_models.samplers import DIFFUSION_SAMPLERS, Denoised, network_evaluations, sample_diffusion
from reference_models.schedules import set_learning_rate


class LatentDiffusion(GenerativeModel):
    """Latent diffusion: a trained convolutional autoencoder with unit-variance latents and a U-Net diffusion in latent space."""

    family = "diffusion"
    paper = "High-Resolution Image Synthesis with Latent Diffusion Models, 2021, arXiv 2112.10752"
    known_failures = (
        "Samples are never sharper than the autoencoder's reconstructions, and a budget too short for both parts leaves them "
        "blurred. The autoencoder has no adversarial or perceptual loss here."
    )
    spaces = (ImageSpace,)
    scale: Tensor
    shift: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config(ProcessConfig, DenoiserConfig):
        """schedule ... times: see ``ProcessConfig``. width ... patch: of the denoiser, see ``DenoiserConfig``.

        latent_channels: of the latent map. latent_side: images are halved until it is at most this high and wide, as far as their
        sides are even. autoencoder_width: channels of the autoencoder. autoencoder_share: of the budget.
        kl_weight: of the divergence of the latents from N(0, 1) beside the squared error; it only keeps them from drifting away.
        """

        learning_rate: float = 5e-3
        latent_channels: int = 4
        latent_side: int = 8
        autoencoder_width: int = 32
        autoencoder_learning_rate: float = 2e-3
        autoencoder_share: float = 0.4
        kl_weight: float = 1e-4
        sampler: str = "ddim"
        steps: int = 25

        def __post_init__(self) -> None:
            ProcessConfig.__post_init__(self)
            DenoiserConfig.__post_init__(self)
            positive(self, "learning_rate", "autoencoder_learning_rate", "latent_channels", "autoencoder_width")
            at_least_one(self, "latent_side")
            if not 0 < self.autoencoder_share < 1:
                raise ValueError(f"autoencoder_share must lie between 0 and 1, got {self.autoencoder_share}")
            if self.kl_weight < 0:
                raise ValueError(f"kl_weight must not be negative, got {self.kl_weight}")
            one_of(self, "sampler", DIFFUSION_SAMPLERS)
            between(self, 1, STEPS, "steps")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        assert isinstance(space, ImageSpace)
        halvings, side = 0, (space.height, space.width)
        while max(side) > self.config.latent_side and side[0] % 2 == side[1] % 2 == 0:
            halvings, side = halvings + 1, (side[0] // 2, side[1] // 2)
        channels, width = self.config.latent_channels, self.config.autoencoder_width
        self.latent_space = ImageSpace(channels, *side)
        self.encoder = image_encoder(space.channels, 2 * channels, width, halvings)
        self.decoder = image_decoder(channels, space.channels, width, halvings)
        self.process = ForwardProcess(self.config, pixels=False)
        self.network = unet(self.latent_space, self.config)
        self.register_buffer("shift", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        self.autoencoder_optimizer = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()], fused=True
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99), fused=True)

    @property
    def nfe(self) -> int:
        return network_evaluations(self.config.sampler, self.config.steps, self.process.alpha_bar)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """ "loss" is the autoencoder's in the first part of the budget and the denoiser's in the second."""
        share = self.config.autoencoder_share
        if progress < share:
            return self.train_autoencoder(batch.x, progress / share)
        return self.train_denoiser(batch.x, (progress - share) / (1 - share))

    def train_autoencoder(self, x: Tensor, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.autoencoder_optimizer, self.config.autoencoder_learning_rate, progress)
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = squared_error(self.decoder(z), x, pixels=True) + self.config.kl_weight * kl
        self.descend(loss, self.autoencoder_optimizer)
        with torch.no_grad():  # follows the latents, so that the denoiser finds them at mean 0 and standard deviation 1
            self.shift.lerp_(mean.mean((0, 2, 3), keepdim=True), 0.05)
            self.scale.lerp_((mean - self.shift).square().mean((0, 2, 3), keepdim=True).sqrt(), 0.05)
        return {"loss": loss.detach()}

    def train_denoiser(self, x: Tensor, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        self.autoencoder_optimizer.zero_grad(set_to_none=True)  # what trains no more has no gradient to be watched
        with torch.no_grad():
            x0 = self.latent(x)
        index = self.process.draw_index(len(x0), x0.device)
        epsilon = torch.randn_like(x0)
        loss = self.process.loss(
            self.network(self.process.diffuse(x0, epsilon, index), index / STEPS), x0, epsilon, index
        )
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def latent(self, x: Tensor) -> Tensor:
        """Images -> scaled latent maps, ``(B, latent_channels, h, w)``."""
        return (self.encoder(x).float().chunk(2, dim=1)[0] - self.shift) / self.scale.clamp_min(1e-6)

    def image(self, z: Tensor) -> Tensor:
        """The inverse: scaled latent maps -> images in [-1, 1]."""
        return self.decoder(z * self.scale.clamp_min(1e-6) + self.shift).float().clamp(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        return self.latent(x).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return self.image(z.view(len(z), *self.latent_space.shape))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.image(self.latent(x))

    def denoise(self, z: Tensor, t: float) -> Denoised:
        output = self.network(z, torch.full((len(z),), t, device=z.device)).float()
        return Denoised(*self.process.clean(output, z, t))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        z = sample_diffusion(
            self.denoise,
            generator.randn(*self.latent_space.shape),
            self.process.alpha_bar,
            lambda z: generator.randn(*z.shape[1:]),
            sampler=options.get("sampler", self.config.sampler),
            steps=options.get("steps", self.config.steps),
        )
        return self.image(z)


def image_encoder(channels: int, outputs: int, width: int, halvings: int) -> nn.Sequential:
    """``(B, channels, H, W) -> (B, outputs, H / 2^halvings, W / 2^halvings)``: ``width`` channels after the first halving, then twice as
    many. The first halving reads the image: a layer before it would cost more than all the others together."""
    widths = _widths(channels, width, halvings)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
    layers += [nn.Conv2d(widths[-1], 2 * width, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(2 * width, outputs, 3, padding=1))


def image_decoder(inputs: int, channels: int, width: int, halvings: int) -> nn.Sequential:
    """The mirror of ``image_encoder``."""
    widths = _widths(channels, width, halvings)[::-1]
    layers: list[nn.Module] = [nn.Conv2d(inputs, 2 * width, 3, padding=1), nn.SiLU()]
    layers.append(nn.Conv2d(2 * width, widths[0], 3, padding=1))
    for before, after in pairwise(widths):
        layers += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _widths(channels: int, width: int, halvings: int) -> list[int]:
    """Channels of the image and after each halving."""
    return [channels, width, *[2 * width] * halvings][: halvings + 1]
