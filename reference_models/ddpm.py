"""Denoising diffusion: learn to undo Gaussian noise of every strength, then undo it step by step.

q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t),   t = 1/1000, 2/1000 ... 1
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.samplers import sample_ddim, sample_ddpm
from reference_models.schedules import TIMES, draw_times, set_learning_rate

STEPS = 1000  # of the forward process
CHOICES = {
    "schedule": ("cosine", "linear"),
    "prediction": ("v", "epsilon"),
    "times": TIMES,
    "sampler": ("ddim", "ddpm"),
}


class DDPM(GenerativeModel):
    """Denoising diffusion with a U-Net: v or epsilon prediction, cosine or linear schedule, DDIM or ancestral sampling."""

    family = "diffusion"
    paper = (
        "Denoising Diffusion Probabilistic Models, 2020, arXiv 2006.11239; DDIM, 2020, arXiv 2010.02502; cosine schedule: "
        "2021, arXiv 2102.09672; v prediction: Progressive Distillation, 2022, arXiv 2202.00512"
    )
    known_failures = (
        "Epsilon prediction with the cosine schedule leaves some samples as pixel noise after short training: near t = 1 the "
        "clean image is a small difference of large numbers. Ancestral sampling needs hundreds of steps."
    )
    spaces = (ImageSpace, VectorSpace)
    signal: Tensor
    noise: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config(DenoiserConfig):
        """times: how training times are drawn, see ``draw_times``; DDPM itself is "uniform". steps: of sampling, at most 1000. eta: noise of DDIM steps, 0 (none) to 1 (as much as DDPM)."""

        learning_rate: float = 5e-3
        schedule: str = "cosine"
        prediction: str = "v"
        times: str = "logit-normal"
        sampler: str = "ddim"
        steps: int = 25
        eta: float = 0.0

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.learning_rate <= 0:
                raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
            for name, choices in CHOICES.items():
                if getattr(self, name) not in choices:
                    raise ValueError(f"{name} must be one of {', '.join(choices)}, got '{getattr(self, name)}'")
            if not 1 <= self.steps <= STEPS:
                raise ValueError(f"steps must lie in 1 ... {STEPS}, got {self.steps}")
            if not 0 <= self.eta <= 1:
                raise ValueError(f"eta must lie in 0 ... 1, got {self.eta}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.network = denoiser(space, self.config)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)
        self.alphas_cumprod = SCHEDULES[self.config.schedule]()  # of t = 0, 1/1000 ... 1, float64, on the host
        self.register_buffer("signal", self.alphas_cumprod.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - self.alphas_cumprod).sqrt().float(), persistent=False)

    @property
    def nfe(self) -> int:
        return self.config.steps

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        x0, index = batch.x, self.draw_index(len(batch), batch.x.device)
        epsilon = torch.randn_like(x0)
        signal, noise = (table[index].view(-1, *[1] * (x0.ndim - 1)) for table in (self.signal, self.noise))
        output = self.network(signal * x0 + noise * epsilon, index / STEPS)
        target = signal * epsilon - noise * x0 if self.config.prediction == "v" else epsilon
        loss = F.mse_loss(output.float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def draw_index(self, n: int, device: torch.device) -> Tensor:
        """``(n,)`` step numbers in 1 ... 1000."""
        return (draw_times(n, self.config.times, device) * STEPS).long().clamp_(max=STEPS - 1) + 1

    def alpha_bar(self, t: float) -> float:
        """alpha_bar of a time in [0, 1]."""
        return float(self.alphas_cumprod[round(t * STEPS)])

    def denoise(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """x_t ``(B, *shape)`` and t in (0, 1] -> the expected x_0 (images: clipped to their range) and the epsilon of it."""
        output = self.network(x, torch.full((len(x),), t, device=x.device)).float()
        signal, noise = math.sqrt(self.alpha_bar(t)), math.sqrt(1 - self.alpha_bar(t))
        x0 = signal * x - noise * output if self.config.prediction == "v" else (x - noise * output) / signal
        if isinstance(self.space, ImageSpace):
            x0 = x0.clamp(-1, 1)
        return x0, (x - signal * x0) / noise

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        steps = options.get("steps", self.config.steps)
        times = [round(STEPS * (1 - step / steps)) / STEPS for step in range(steps)] + [0.0]
        x = generator.randn(*self.space.shape)

        def randn_like(x: Tensor) -> Tensor:
            return generator.randn(*x.shape[1:])

        if self.config.sampler == "ddpm":
            return sample_ddpm(self.denoise, x, times, self.alpha_bar, randn_like)
        return sample_ddim(self.denoise, x, times, self.alpha_bar, randn_like, options.get("eta", self.config.eta))


def linear_schedule() -> Tensor:
    """beta rises linearly from 1e-4 to 0.02 (DDPM) -> alpha_bar at 0 ... 1000 steps, ``(1001,)`` float64, 1 at first."""
    betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


def cosine_schedule() -> Tensor:
    """alpha_bar = cos^2 with offset 0.008, each beta at most 0.999 (Improved DDPM) -> as ``linear_schedule``."""
    t = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    cosine = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    betas = (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


SCHEDULES = {"cosine": cosine_schedule, "linear": linear_schedule}
