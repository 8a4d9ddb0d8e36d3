"""Denoising diffusion: v or epsilon prediction on a continuous-time schedule, DDIM or ancestral sampling."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.unet import default_patch, denoiser
from reference_models.samplers import ddim, full_time

SCHEDULES = ("cosine", "linear")
PREDICTIONS = ("v", "epsilon")


class DDPM(GenerativeModel):
    """Denoising diffusion (v prediction by default) on a small U-Net, DDIM sampling."""

    family = "diffusion"
    paper = (
        "Denoising Diffusion Probabilistic Models, 2020, arXiv 2006.11239; DDIM, 2020, arXiv 2010.02502; "
        "v prediction, 2022, arXiv 2202.00512"
    )
    known_failures = (
        "Epsilon prediction on the cosine schedule leaves whole samples as pixel noise after short training: near t = 1 "
        "the clean image is the difference of two large numbers."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = 32
        schedule: str = "cosine"
        prediction: str = "v"
        steps: int = 25
        eta: float = 0.0
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            if self.schedule not in SCHEDULES:
                raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got '{self.schedule}'")
            if self.prediction not in PREDICTIONS:
                raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got '{self.prediction}'")
            if self.width < 8 or self.width % 8:
                raise ValueError(f"width must be a multiple of 8, got {self.width}")
            if self.steps < 1 or not 0 <= self.eta <= 1:
                raise ValueError(f"steps must be >= 1 and eta in [0, 1], got {self.steps} and {self.eta}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.network = denoiser(space, self.config.width, default_patch(space))
        self.optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self.clip = isinstance(space, ImageSpace)

    @property
    def nfe(self) -> int:
        return self.config.steps

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Share of signal variance left at time t in [0, 1], alpha_bar(0) = 1."""
        if self.config.schedule == "cosine":
            return (0.5 * math.pi * t).cos().square()
        return torch.exp(-0.05 * t - 0.5 * 19.95 * t.square())  # beta(t) = 0.1 + 19.9 t: 1e-4 ... 0.02 at 1000 steps

    def forward_process(self, x0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """q(x_t | x_0): sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon; t ``(B,)``."""
        a = self.alpha_bar(t).view(-1, *[1] * (x0.ndim - 1))
        return a.sqrt() * x0 + (1 - a).sqrt() * epsilon

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        x0 = batch.x
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        t = stratified_times(len(batch), x0.device)
        epsilon = torch.randn_like(x0)
        a = self.alpha_bar(t).view(-1, *[1] * (x0.ndim - 1))
        target = a.sqrt() * epsilon - (1 - a).sqrt() * x0 if self.config.prediction == "v" else epsilon
        loss = F.mse_loss(self.network(self.forward_process(x0, t, epsilon), t).float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {self.config.prediction: loss.detach()}

    def denoise(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """(x0, epsilon) predicted from x at time t; images are clipped to the data's range."""
        a = float(self.alpha_bar(torch.tensor(t, dtype=torch.float64)))
        output = self.network(x, full_time(x, t)).float()
        signal, noise = a**0.5, (1 - a) ** 0.5
        x0 = signal * x - noise * output if self.config.prediction == "v" else (x - noise * output) / max(signal, 1e-4)
        if self.clip:
            x0 = x0.clamp(-1, 1)
        return x0, (x - signal * x0) / max(noise, 1e-4)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        steps = options.get("steps", self.config.steps)
        times = [0.999 * (1 - i / steps) for i in range(steps + 1)]

        def alpha_bar(t: float) -> float:
            return float(self.alpha_bar(torch.tensor(t, dtype=torch.float64)))

        def noise() -> Tensor:
            return generator.randn(*self.space.shape)

        return ddim(self.denoise, noise(), times, alpha_bar, options.get("eta", self.config.eta), noise)


def stratified_times(count: int, device: torch.device) -> Tensor:
    """One uniform time in each of ``count`` equal parts of [0, 1], shuffled implicitly by the batch's own order."""
    return (torch.arange(count, device=device) + torch.rand(count, device=device)) / count


def set_learning_rate(optimizer: torch.optim.Optimizer, peak: float, progress: float) -> None:
    """Linear warm-up over the first 3 % of the budget, then a cosine to zero."""
    warm = min(1.0, (progress + 1e-3) / 0.03)
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * 0.5 * (1 + math.cos(math.pi * progress))
