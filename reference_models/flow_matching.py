"""Flow matching: regress the velocity of straight paths from noise to data, then integrate it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.ddpm import set_learning_rate, stratified_times
from reference_models.networks.unet import default_patch, denoiser
from reference_models.samplers import EVALUATIONS, ODE_SOLVERS, full_time


class FlowMatching(GenerativeModel):
    """Flow matching on straight paths (rectified flow), same U-Net as ddpm, Euler, midpoint or Heun sampling."""

    family = "flow matching"
    paper = "Flow Matching for Generative Modeling, 2022, arXiv 2210.02747; Rectified Flow, 2022, arXiv 2209.03003"
    known_failures = (
        "With very few steps samples are averages of their neighbours: the learned paths cross, the true ones bend."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = 32
        solver: str = "euler"
        steps: int = 25
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            if self.solver not in ODE_SOLVERS:
                raise ValueError(f"solver must be one of {', '.join(ODE_SOLVERS)}, got '{self.solver}'")
            if self.width < 8 or self.width % 8:
                raise ValueError(f"width must be a multiple of 8, got {self.width}")
            if self.steps < 1:
                raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.network = denoiser(space, self.config.width, default_patch(space))
        self.optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )

    @property
    def nfe(self) -> int:
        return self.config.steps * EVALUATIONS[self.config.solver]

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        x1 = batch.x
        x0 = torch.randn_like(x1)
        t = stratified_times(len(batch), x1.device)
        at = t.view(-1, *[1] * (x1.ndim - 1))
        velocity = self.network((1 - at) * x0 + at * x1, t).float()
        loss = F.mse_loss(velocity, x1 - x0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"velocity": loss.detach()}

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """dx/dt at time t in [0, 1]; 0 is noise, 1 is data."""
        return self.network(x, full_time(x, t)).float()

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        steps = options.get("steps", self.config.steps)
        solve = ODE_SOLVERS[options.get("solver", self.config.solver)]
        return solve(self.velocity, generator.randn(*self.space.shape), [i / steps for i in range(steps + 1)])
