"""Consistency training: one network maps every point of a noise trajectory to its origin, so that one evaluation is a sample.

f(x, sigma) = c_skip x + c_out network(c_in x, c_noise),   f(x, sigma_min) = x,   f(x + sigma_i z, sigma_i) = f(x + sigma_{i+1} z, sigma_{i+1})
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.edm import noise_time, sigma_data_of
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.options import given, positive
from reference_models.pixels import censored
from reference_models.samplers import karras_sigmas
from reference_models.schedules import set_learning_rate

LOG_MEAN, LOG_STD = -1.1, 2.0  # of ln sigma in training
HUBER = 0.00054  # times the square root of the dimension: where the loss turns from square to linear


class Consistency(GenerativeModel):
    """Consistency training from data alone (no teacher): one- and two-step sampling."""

    family = "consistency"
    paper = "Consistency Models, 2023, arXiv 2303.01469; Improved Techniques for Training Consistency Models, 2023, arXiv 2310.14189"
    known_failures = (
        "Training from scratch is slow and noisy: short runs give blurred or speckled samples, far behind a diffusion model of the "
        "same size that may use many steps. After two minutes of one CPU core on MNIST at 32 pixels (2000 steps) digits lie under a "
        "few specks and many do not close: KID by a classifier of digits is 0.21 +- 0.09 over three seeds, that of a Gaussian 0.78."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config(DenoiserConfig):
        """sigma_data: standard deviation of the data; ``None`` means 0.5 for images and 1 for vectors. levels: noise levels at the beginning and at the end of training, doubled at equal shares of the budget in between.
        steps: of sampling, 1 or 2. middle: sigma to which the second step adds noise again; 0.821 in the paper for CIFAR-10, more in
        short trainings, where the first step's samples need more mending.
        time_scale: what the noise level told to the network is multiplied by, from ``noise_time`` in 0 ... 1 (see ``told``).
        """

        learning_rate: float = 5e-3
        sigma_data: float | None = None
        sigma_min: float = 0.002
        sigma_max: float = 80.0
        levels: tuple[int, int] = (10, 160)
        steps: int = 2
        middle: float = 1.5
        time_scale: float = 0.01

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "levels", tuple(self.levels))
            positive(self, "learning_rate", "time_scale", *given(self, "sigma_data"))
            if not 0 < self.sigma_min < self.middle < self.sigma_max:
                raise ValueError(
                    f"sigma_min < middle < sigma_max must hold, got {self.sigma_min}, {self.middle}, {self.sigma_max}"
                )
            if len(self.levels) != 2 or not 2 <= self.levels[0] <= self.levels[1]:
                raise ValueError(f"levels must be two growing numbers, at least 2, got {list(self.levels)}")
            if self.steps not in (1, 2):
                raise ValueError(f"steps must be 1 or 2, got {self.steps}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.sigma_data = sigma_data_of(space, self.config.sigma_data)
        self.network = denoiser(space, self.config)
        self.optimizer = torch.optim.RAdam(self.parameters(), betas=(0.9, 0.99))

    @property
    def nfe(self) -> int:
        return self.config.steps

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        data = batch.x
        sigmas = self.levels(progress).to(data.device)
        index = torch.multinomial(level_weights(sigmas), len(batch), replacement=True)
        low, high = sigmas[index], sigmas[index + 1]
        noise, shape = torch.randn_like(data), (-1, *[1] * (data.ndim - 1))
        with torch.no_grad():
            target = self.consistency(data + low.view(shape) * noise, low)
        output = self.consistency(data + high.view(shape) * noise, high)
        if isinstance(self.space, ImageSpace):  # samples are clipped
            target = target.clamp(-1, 1)
            output = censored(output, target)
        c = HUBER * math.sqrt(data[0].numel())
        distance = ((output - target).square().flatten(1).sum(1) + c**2).sqrt() - c  # pseudo-Huber
        loss = (distance / (high - low)).mean()
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def levels(self, progress: float) -> Tensor:
        """Rising sigmas of the present stage, ``(N + 1,)`` from sigma_min to sigma_max; N doubles stage by stage."""
        first, last = self.config.levels
        stages = math.ceil(math.log2(last / first)) + 1
        count = min(first * 2 ** int(progress * stages), last)
        grid = karras_sigmas(count + 1, self.config.sigma_min, self.config.sigma_max)[:-1]
        return torch.tensor(grid[::-1], dtype=torch.float32)

    def consistency(self, x: Tensor, sigma: Tensor) -> Tensor:
        """f(x, sigma), ``(B, *shape)``; exactly x at sigma_min. sigma: ``(B,)``."""
        s, sigma_data = sigma.view(-1, *[1] * (x.ndim - 1)), self.sigma_data
        from_start, total = s - self.config.sigma_min, s.square() + sigma_data**2
        c_skip = sigma_data**2 / (from_start.square() + sigma_data**2)
        c_out = sigma_data * from_start * total.rsqrt()
        return c_skip * x + c_out * self.network(total.rsqrt() * x, self.told(sigma)).float()

    def told(self, sigma: Tensor) -> Tensor:
        """The noise level as the network is told it, ``(B,)`` in 0 ... time_scale.

        The embedding of the time has frequencies up to 1000: at a scale of 1 the fastest turn by several radians from one level to the
        next, and the network has to learn anew at each level what it knows at its neighbours. A scale of 0.01 leaves 10 radians for all
        levels together; "Improved Techniques for Training Consistency Models" (arXiv 2310.14189) made its embedding less sensitive for
        the same reason.
        """
        return self.config.time_scale * noise_time(sigma)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        config = self.config
        steps = options.get("steps", config.steps)
        if steps not in (1, 2):
            raise BenchError(f"consistency models sample in 1 or 2 steps, got {steps}")
        x = self._jump(config.sigma_max * generator.randn(*self.space.shape), config.sigma_max)
        if steps == 2:
            spread = math.sqrt(config.middle**2 - config.sigma_min**2)
            x = self._jump(x + spread * generator.randn(*self.space.shape), config.middle)
        return x

    def _jump(self, x: Tensor, sigma: float) -> Tensor:
        """To the origin of the trajectory; images are clipped to their range."""
        x = self.consistency(x, torch.full((len(x),), sigma, device=x.device))
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x


def level_weights(sigmas: Tensor) -> Tensor:
    """Probability of each pair of neighbouring levels: the mass of a log-normal between them, ``(N,)``."""
    mass = torch.erf((sigmas.log() - LOG_MEAN) / (math.sqrt(2) * LOG_STD)).diff()
    return mass / mass.sum()
