"""Flow matching: learn the velocity of straight paths from noise to data, then follow it.

x_t = (1 - t) noise + t data,   velocity = data - noise,   loss = |network(x_t, t) - velocity|^2
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.samplers import EVALUATIONS, ODE_SAMPLERS, uniform_times
from reference_models.schedules import TIMES, draw_times, set_learning_rate


class FlowMatching(GenerativeModel):
    """Flow matching on straight paths (rectified flow): a U-Net velocity field, integrated by Euler, midpoint or Heun."""

    family = "flow matching"
    paper = (
        "Flow Matching for Generative Modeling, 2022, arXiv 2210.02747; Flow Straight and Fast (rectified flow), 2022, "
        "arXiv 2209.03003; logit-normal times: Scaling Rectified Flow Transformers, 2024, arXiv 2403.03206"
    )
    known_failures = "With few solver steps, samples shrink towards averages of several images, because the learned paths are curved."
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config(DenoiserConfig):
        """times: how training times are drawn, see ``draw_times``. steps: of the sampler, one or two evaluations each."""

        learning_rate: float = 5e-3
        times: str = "logit-normal"
        sampler: str = "euler"
        steps: int = 25

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.learning_rate <= 0:
                raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
            if self.times not in TIMES:
                raise ValueError(f"times must be one of {', '.join(TIMES)}, got '{self.times}'")
            if self.sampler not in ODE_SAMPLERS:
                raise ValueError(f"sampler must be one of {', '.join(ODE_SAMPLERS)}, got '{self.sampler}'")
            if self.steps < 1:
                raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.network = denoiser(space, self.config)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    @property
    def nfe(self) -> int:
        return self.config.steps * EVALUATIONS[self.config.sampler]

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        data = batch.x
        noise = torch.randn_like(data)
        t = draw_times(len(batch), self.config.times, data.device)
        at = t.view(-1, *[1] * (data.ndim - 1))
        velocity = self.network((1 - at) * noise + at * data, t)
        loss = F.mse_loss(velocity.float(), data - noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """dx/dt at time t; noise is at t = 0, data at t = 1."""
        return self.network(x, torch.full((len(x),), t, device=x.device)).float()

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        steps = options.get("steps", self.config.steps)
        sampler = ODE_SAMPLERS[options.get("sampler", self.config.sampler)]
        x = sampler(self.velocity, generator.randn(*self.space.shape), uniform_times(0.0, 1.0, steps))
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x
