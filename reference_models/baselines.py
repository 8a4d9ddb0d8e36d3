"""Trivial generators: what any model must beat, and the floor that none can.

They learn nothing by gradient; they look at the training set once, in ``fit_prior``. A metric that one of them wins
measures something else than what a user wants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace


class _Baseline(GenerativeModel):
    """No gradient, no parameters."""

    family = "baseline"
    trains = False
    spaces = (ImageSpace, VectorSpace)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        return {}


class Floor(_Baseline):
    """Real training data without replacement: the score of a perfect sampler, the train-vs-test floor."""

    family = "baseline"
    paper = ""
    known_failures = "It is the data: no more samples than training examples."

    def fit_prior(self, loader: Iterable[Batch]) -> None:
        data = torch.cat([batch.x for batch in loader])
        self.register_buffer("data", data, persistent=False)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        total = len(self.data)
        if int(generator.indices[-1]) >= total:
            raise BenchError(
                f"the floor draws without replacement from {total} training examples; set samples to at most {total}"
            )
        order = torch.randperm(total, generator=torch.Generator().manual_seed(generator.seed))
        return self.data[order.to(self.data.device)[generator.indices]]


class CopyTrain(_Baseline):
    """Replays training examples: perfect on every distance, worthless as a model; exposes metrics that reward copying."""

    family = "baseline"
    paper = ""
    known_failures = "Everything it makes is copied; memorisation metrics must flag it."

    def fit_prior(self, loader: Iterable[Batch]) -> None:
        self.register_buffer("data", torch.cat([batch.x for batch in loader]), persistent=False)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.data[generator.randint(len(self.data))]


class Mean(_Baseline):
    """The mean of the training set, again and again: no diversity at all."""

    family = "baseline"
    paper = ""
    known_failures = "One sample only."

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.register_buffer("mean", torch.zeros(space.shape))

    def fit_prior(self, loader: Iterable[Batch]) -> None:
        self.mean.copy_(torch.cat([batch.x for batch in loader]).double().mean(0))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return self.mean.expand(n, *self.space.shape)


class Noise(_Baseline):
    """Independent uniform noise in [-1, 1]: no structure at all."""

    family = "baseline"
    paper = ""
    known_failures = "It never looks at the data."

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return generator.rand(*self.space.shape) * 2 - 1


class Gaussian(_Baseline):
    """One Gaussian with the data's mean and leading principal components: the best linear model."""

    family = "baseline"
    paper = "Probabilistic Principal Component Analysis, 1999, Tipping & Bishop (JRSS B 61)"
    known_failures = "Ghostly averages wherever the data have more than one mode."

    @dataclasses.dataclass(frozen=True)
    class Config:
        components: int = 64

        def __post_init__(self) -> None:
            if self.components < 1:
                raise ValueError(f"components must be at least 1, got {self.components}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        rank = min(self.config.components, space.dimensions)
        self.register_buffer("mean", torch.zeros(space.dimensions))
        self.register_buffer("factors", torch.zeros(rank, space.dimensions))
        self.register_buffer("noise_std", torch.zeros(()))

    def fit_prior(self, loader: Iterable[Batch]) -> None:
        x = torch.cat([batch.x.flatten(1) for batch in loader]).double()
        mean = x.mean(0)
        _, singular, directions = torch.linalg.svd(x - mean, full_matrices=False)
        variances = singular.square() / max(len(x) - 1, 1)
        rank = len(self.factors)
        kept = min(rank, len(variances))
        rest = x.shape[1] - kept
        noise = variances[kept:].sum() / rest if rest else torch.zeros(())  # maximum likelihood, eq. 8
        factors = (variances[:kept] - noise).clamp_min(0).sqrt()[:, None] * directions[:kept]
        self.mean.copy_(mean)
        self.factors.zero_()
        self.factors[:kept].copy_(factors)
        self.noise_std.copy_(noise.sqrt())

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        x = self.mean + generator.randn(len(self.factors)) @ self.factors
        x = x + self.noise_std * generator.randn(self.space.dimensions)
        return x.view(n, *self.space.shape)
