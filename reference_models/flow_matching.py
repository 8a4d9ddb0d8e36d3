"""Flow matching: learn the velocity of straight paths from noise to data, then follow it.

x_t = (1 - t) noise + t data,   velocity = data - noise = (data - x_t) / (1 - t),   loss = |prediction - velocity|^2
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.options import at_least_one, given, one_of, positive
from reference_models.pixels import censored
from reference_models.samplers import EVALUATIONS, ODE_SAMPLERS, sample_adaptive, uniform_times
from reference_models.schedules import TIMES, draw_times, set_learning_rate

SAMPLERS = (*ODE_SAMPLERS, "adaptive")
COUPLINGS = ("independent", "optimal")
PREDICTIONS = ("velocity", "data")
NEAREST = 0.05
"""To t = 1: in training, the velocity of predicted data is divided by no less, and the adaptive solver stops there."""


class FlowMatching(GenerativeModel):
    """Flow matching on straight paths (rectified flow), with optional minibatch-OT coupling; Euler, midpoint, Heun or adaptive."""

    family = "flow matching"
    paper = (
        "Flow Matching for Generative Modeling, 2022, arXiv 2210.02747; Flow Straight and Fast (rectified flow), 2022, "
        "arXiv 2209.03003; minibatch optimal transport: 2023, arXiv 2302.00482; logit-normal times: Scaling Rectified Flow "
        "Transformers, 2024, arXiv 2403.03206; data prediction: Back to Basics, 2025, arXiv 2511.13720"
    )
    known_failures = "With few solver steps, samples shrink towards averages of several images, because the learned paths are curved."
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config(DenoiserConfig):
        """prediction: the network returns the "velocity", or the "data" from which the velocity follows; the loss is that of the
        velocity. None: data for images, whose samples it leaves without grain, else the velocity.
        times: how training times are drawn, see ``draw_times``. noise_shift: how far the mean of logit-normal times lies
        towards noise; what is large in an image is decided there (None: 0.5 for images, else 0). coupling: of noise and data within a batch, "independent" or the
        "optimal" assignment (least sum of squared distances), whose paths cross less.
        sampler: "euler", "midpoint", "heun" of ``steps`` steps with one or two evaluations each (the last one of predicted data is
        Euler's), or "adaptive".
        """

        learning_rate: float = 5e-3
        prediction: str | None = None
        coupling: str = "independent"
        times: str = "logit-normal"
        noise_shift: float | None = None
        sampler: str = "euler"
        steps: int = 25

        def __post_init__(self) -> None:
            super().__post_init__()
            positive(self, "learning_rate")
            choices = {"prediction": PREDICTIONS, "coupling": COUPLINGS, "times": TIMES, "sampler": SAMPLERS}
            for name in ("coupling", "times", "sampler", *given(self, "prediction")):
                one_of(self, name, choices[name])
            at_least_one(self, "steps")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c, pixels = self.config, isinstance(space, ImageSpace)
        self.prediction: str = c.prediction or ("data" if pixels else "velocity")
        self.noise_shift: float = c.noise_shift if c.noise_shift is not None else 0.5 if pixels else 0.0
        self.network = denoiser(space, c)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)
        self.adaptive_nfe = 0  # network evaluations of the batch that was sampled last

    @property
    def nfe(self) -> int:
        name, steps = self.config.sampler, self.config.steps
        if name == "adaptive":
            return self.adaptive_nfe
        return steps * EVALUATIONS[name] if self.prediction == "velocity" else (steps - 1) * EVALUATIONS[name] + 1

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        data, noise = batch.x, torch.randn_like(batch.x)
        if self.config.coupling == "optimal":
            noise = noise[optimal_assignment(data, noise)]
        t = draw_times(len(batch), self.config.times, data.device, -self.noise_shift)
        at = t.view(-1, *[1] * (data.ndim - 1))
        x = (1 - at) * noise + at * data
        output = self.network(x, t).float()
        if self.prediction == "velocity":
            loss = F.mse_loss(output, data - noise)
        else:
            output = censored(output, data) if isinstance(self.space, ImageSpace) else output
            loss = F.mse_loss(output / (1 - at).clamp_min(NEAREST), data / (1 - at).clamp_min(NEAREST))
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def velocity(self, x: Tensor, t: float | Tensor) -> Tensor:
        """dx/dt at time t, a number or ``(B,)``; noise is at t = 0, data at t = 1 (where that of predicted data is infinite, and that
        of images is towards pixels in their range)."""
        output = self._predict(x, t)
        if self.prediction == "velocity":
            return output
        return (output - x) / (1 - torch.as_tensor(t, device=x.device)).view(-1, *[1] * (x.ndim - 1))

    def _predict(self, x: Tensor, t: float | Tensor) -> Tensor:
        output = self.network(x, torch.as_tensor(t, dtype=torch.float32, device=x.device).expand(len(x))).float()
        return output.clamp(-1, 1) if self.prediction == "data" and isinstance(self.space, ImageSpace) else output

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Predicted data is reached by a last step of Euler, whatever the solver before it: at t = 1 its velocity is 0 / 0."""
        steps = options.get("steps", self.config.steps)
        name = options.get("sampler", self.config.sampler)
        calls = 0

        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return self.velocity(x, t)

        x, times = generator.randn(*self.space.shape), uniform_times(0.0, 1.0, steps)
        if self.prediction == "data":
            times = uniform_times(0.0, 1 - NEAREST, steps) if name == "adaptive" else times[:-1]
        x = sample_adaptive(velocity, x, times) if name == "adaptive" else ODE_SAMPLERS[name](velocity, x, times)
        if self.prediction == "data":
            x = self._predict(x, times[-1])
            calls += 1
        if name == "adaptive":
            self.adaptive_nfe = calls
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x


def optimal_assignment(data: Tensor, noise: Tensor) -> Tensor:
    """For each row of ``data`` the row of ``noise`` it is coupled with, ``(B,)``: the permutation with the least sum of squared
    distances ("Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport", 2023, arXiv
    2302.00482). Solved exactly on the host, O(B^3)."""
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(data.flatten(1).float(), noise.flatten(1).float()).square()
    return torch.as_tensor(linear_sum_assignment(cost.cpu().numpy())[1], device=data.device)
