"""Variational autoencoder with a discretised logistic likelihood, so that its ELBO is a bound on bits per dimension."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, SampleGenerator, Space
from reference_models.networks.conv import Decoder, encoder


class VAE(GenerativeModel):
    """Variational autoencoder (beta-VAE with KL warm-up) with a discretised logistic likelihood."""

    family = "vae"
    paper = "Auto-Encoding Variational Bayes, 2013, arXiv 1312.6114; beta-VAE, 2017 (ICLR)"
    known_failures = "Blurred samples, and blends of classes where the prior covers holes between encodings."
    nll_kind: ClassVar[Literal["exact", "upper_bound", "estimate"]] = "upper_bound"

    @dataclasses.dataclass(frozen=True)
    class Config:
        latent: int = 16
        width: int = 32
        beta: float = 1.0
        warm_up: float = 0.1
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            if self.latent < 1 or self.width < 1:
                raise ValueError(f"latent and width must be at least 1, got {self.latent} and {self.width}")
            if self.beta < 0 or not 0 <= self.warm_up <= 1:
                raise ValueError(f"beta must be >= 0 and warm_up in [0, 1], got {self.beta} and {self.warm_up}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        self.encoder = encoder(space, 2 * c.latent, c.width)
        self.decoder = Decoder(space, c.latent, c.width)
        self.log_scale = nn.Parameter(torch.tensor(-2.0))  # of the logistic, shared by all pixels
        self.optimizer = torch.optim.Adam(self.parameters(), lr=c.learning_rate, fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        beta = self.config.beta * min(1.0, progress / self.config.warm_up if self.config.warm_up else 1.0)
        distortion, rate = self._elbo_terms(batch.x)
        loss = (distortion + beta * rate).mean() / self.space.dimensions
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"distortion": distortion.detach().mean(), "kl": rate.detach().mean()}

    def _elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(-log p(x|z), KL(q(z|x) || N(0, I))), nats per example, each ``(B,)``."""
        mean, log_variance = self.encoder(x).float().chunk(2, 1)
        log_variance = log_variance.clamp(-12, 6)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        log_likelihood = discretised_logistic(x, self.decoder(z).float(), self.log_scale)
        return -log_likelihood.flatten(1).sum(1), gaussian_kl(mean, log_variance)

    def nll(self, x: Tensor) -> Tensor:
        """Negative ELBO (beta = 1, one draw of z), nats per example of 256-level data: an upper bound in expectation."""
        distortion, rate = self._elbo_terms(x)
        return distortion + rate

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).chunk(2, 1)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """The decoder's mean at z ~ N(0, I), as is usual; the likelihood's pixel noise is left out."""
        return self.decode(generator.randn(self.config.latent))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, ``(B, d) -> (B,)``."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def discretised_logistic(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P of each 8-bit value under a logistic cut into 256 bins (PixelCNN++, 2017, arXiv 1701.05517), nats, shape of x.

    x in [-1, 1] on the grid of 256 levels; the outermost bins reach to infinity, so the bins sum to one.
    """
    inverse = (-log_scale).exp()
    centred = x - mean
    upper = inverse * (centred + 1 / 255)
    lower = inverse * (centred - 1 / 255)
    log_below = F.logsigmoid(upper)  # of the bin of level 0, which reaches to -inf
    log_above = F.logsigmoid(-lower)  # of the bin of level 255
    inside = torch.sigmoid(upper) - torch.sigmoid(lower)
    # far out in the tails the difference underflows; the density times the bin's width is then exact enough
    middle = inverse * centred
    tail = middle - log_scale - 2 * F.softplus(middle) + math.log(2 / 255)
    log_inside = torch.where(inside > 1e-5, inside.clamp_min(1e-12).log(), tail)
    return torch.where(x < -0.999, log_below, torch.where(x > 0.999, log_above, log_inside))
