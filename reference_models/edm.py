"""EDM: a denoiser whose inputs and outputs have unit variance at every noise level sigma, sampled along sigma by Heun's method.

D(x; sigma) = c_skip x + c_out network(c_in x, c_noise),   x = data + sigma noise,   loss = |D - data|^2 / c_out^2
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.options import at_least_one, given, positive
from reference_models.pixels import censored
from reference_models.samplers import karras_sigmas, sample_edm
from reference_models.schedules import normal_quantiles, set_learning_rate


class EDM(GenerativeModel):
    """EDM: preconditioned denoiser, log-normal noise levels, Heun sampling with optional churn."""

    family = "diffusion"
    paper = "Elucidating the Design Space of Diffusion-Based Generative Models, 2022, arXiv 2206.00364"
    known_failures = (
        "sigma_data must be near the data's standard deviation; far off, the preconditioning no longer gives unit variance and "
        "learning slows down. Churn helps long-trained networks and adds noise to the samples of short-trained ones. "
        "After 300 steps on MNIST at 32 pixels some strokes do not join into a digit."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config(DenoiserConfig):
        """sigma_data: standard deviation of the data; ``None`` means 0.5 for images, as in the paper, and 1 for vectors. log_mean, log_std: of ln sigma in training (P_mean, P_std of the paper);
        ``None`` means: chosen from the space, the paper's -1.2 and 1.2 for vectors, for images the -0.4 and 1.0 of "Analyzing and
        Improving the Training Dynamics of Diffusion Models" (2023, arXiv 2312.02696), which train less where single pixels are decided.
        sigma_min, sigma_max, rho: of the sampler's grid. steps: of Heun, two evaluations each but for the last.
        churn, churn_min, churn_max, churn_noise: S_churn, S_tmin, S_tmax and S_noise of the paper; churn 0 is deterministic.
        """

        learning_rate: float = 5e-3
        sigma_data: float | None = None
        log_mean: float | None = None
        log_std: float | None = None
        sigma_min: float = 0.002
        sigma_max: float = 80.0
        rho: float = 7.0
        steps: int = 18
        churn: float = 0.0
        churn_min: float = 0.05
        churn_max: float = 50.0
        churn_noise: float = 1.003

        def __post_init__(self) -> None:
            super().__post_init__()
            positive(self, "learning_rate", "sigma_min", "rho", "churn_noise", *given(self, "log_std", "sigma_data"))
            if self.sigma_max <= self.sigma_min:
                raise ValueError(f"sigma_max must be above sigma_min = {self.sigma_min}, got {self.sigma_max}")
            if self.churn < 0:
                raise ValueError(f"churn must not be negative, got {self.churn}")
            at_least_one(self, "steps")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        log_mean, log_std = (-0.4, 1.0) if isinstance(space, ImageSpace) else (-1.2, 1.2)
        self.sigma_data = sigma_data_of(space, self.config.sigma_data)
        self.log_mean = log_mean if self.config.log_mean is None else self.config.log_mean
        self.log_std = log_std if self.config.log_std is None else self.config.log_std
        self.network = denoiser(space, self.config)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    @property
    def nfe(self) -> int:
        return 2 * self.config.steps - 1

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        data = batch.x
        sigma = (self.log_mean + self.log_std * normal_quantiles(len(batch), data.device)).exp()
        at = sigma.view(-1, *[1] * (data.ndim - 1))
        x = data + at * torch.randn_like(data)
        c_skip, c_out, c_in = preconditioning(at, self.sigma_data)
        denoised = c_skip * x + c_out * self.network(c_in * x, noise_time(sigma)).float()
        if isinstance(self.space, ImageSpace):
            denoised = censored(denoised, data)
        loss = ((denoised - data) / c_out).square().mean()
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """D(x; sigma): the expected data, ``(B, *shape)``; images are clipped to their range."""
        level = torch.full((len(x),), sigma, device=x.device)
        c_skip, c_out, c_in = preconditioning(level.view(-1, *[1] * (x.ndim - 1)), self.sigma_data)
        data = c_skip * x + c_out * self.network(c_in * x, noise_time(level)).float()
        return data.clamp(-1, 1) if isinstance(self.space, ImageSpace) else data

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        config = self.config
        sigmas = karras_sigmas(options.get("steps", config.steps), config.sigma_min, config.sigma_max, config.rho)
        x = sample_edm(
            self.denoise,
            sigmas[0] * generator.randn(*self.space.shape),
            sigmas,
            lambda x: generator.randn(*x.shape[1:]),
            churn=options.get("churn", config.churn),
            churn_range=(config.churn_min, config.churn_max),
            churn_noise=config.churn_noise,
        )
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x


def sigma_data_of(space: Space, chosen: float | None) -> float:
    """The standard deviation of the data: as chosen, else the paper's 0.5 for images in [-1, 1], and 1 for vectors of about unit variance."""
    if chosen is not None:
        return chosen
    return 0.5 if isinstance(space, ImageSpace) else 1.0


def preconditioning(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in) of table 1 of the paper: unit variance of the network's input and target, least gain of its errors."""
    total = sigma.square() + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data * total.rsqrt(), total.rsqrt()


def noise_time(sigma: Tensor) -> Tensor:
    """ln(sigma), moved so that sigma from 0.002 to 80 becomes 0 ... 1: the network's "time" (c_noise up to an affine map)."""
    low, high = math.log(0.002), math.log(80.0)
    return (sigma.log() - low) / (high - low)
