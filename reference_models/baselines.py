"""Trivial generators: what every model must beat, and the floor that a perfect one would reach.

None of them trains. What they need of the data they take in ``fit_prior``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.model import (
    Batch,
    BenchError,
    GenerativeModel,
    ImageSpace,
    SampleGenerator,
    Space,
    TokenSpace,
    VectorSpace,
)
from reference_models.options import at_least_one


class Baseline(GenerativeModel):
    """A generator without training."""

    family = "baseline"
    trains = False
    spaces: ClassVar[tuple[type, ...]] = (ImageSpace, TokenSpace, VectorSpace)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        return {}


class TrainingSet(Baseline):
    """A baseline that keeps the training set; it is too large for state dicts and must be fitted anew."""

    data: Tensor | None

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.register_buffer("data", None, persistent=False)

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        self.data = torch.cat([batch.x for batch in loader])

    def training_data(self) -> Tensor:
        if self.data is None:
            raise BenchError(f"{type(self).__name__} has not seen the training set; call fit_prior(loader) first")
        return self.data


class CopyTrain(TrainingSet):
    """Training examples, drawn with replacement: perfect by most metrics, and not a model."""

    family = "baseline"
    paper = ""
    known_failures = "It memorises everything and generalises nothing: a metric it wins says nothing about copying."
    trains = False

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        data = self.training_data()
        return data[generator.randint(len(data))]


class Floor(TrainingSet):
    """Training examples, each at most once: the score of a perfect model, which no honest model can beat."""

    family = "baseline"
    paper = ""
    known_failures = "It can give no more samples than there are training examples."
    trains = False

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        data = self.training_data()
        if generator.start + n > len(data):
            raise BenchError(
                f"floor draws training examples without replacement and has {len(data)}, but sample number "
                f"{generator.start + n} was asked for; ask for at most {len(data)} samples"
            )
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(generator.seed))
        return data[order.to(data.device)[generator.indices]]


class Mean(Baseline):
    """The mean of the training set, every time: no diversity at all."""

    family = "baseline"
    paper = ""
    known_failures = "Complete mode collapse, on purpose."
    trains = False
    spaces = (ImageSpace, VectorSpace)
    mean: Tensor

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.register_buffer("mean", torch.full(space.shape, math.nan))

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        self.mean.copy_(torch.cat([batch.x for batch in loader]).double().mean(0))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        if self.mean.isnan().any():
            raise BenchError("Mean has not seen the training set; call fit_prior(loader) first")
        return self.mean.expand(n, *self.space.shape).clone()


class Noise(Baseline):
    """Uniform noise: images in [-1, 1], tokens over the vocabulary, vectors of unit variance; the worst there is."""

    family = "baseline"
    paper = ""
    known_failures = "It never looks at the data."
    trains = False

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        if isinstance(self.space, TokenSpace):
            return generator.randint(self.space.vocabulary, *self.space.shape)
        uniform = 2 * generator.rand(*self.space.shape) - 1
        return uniform if isinstance(self.space, ImageSpace) else math.sqrt(3) * uniform


class Gaussian(Baseline):
    """A Gaussian with the mean and the leading principal components of the training set: the best linear model."""

    family = "baseline"
    paper = "Probabilistic Principal Component Analysis, Tipping and Bishop, J. R. Stat. Soc. B 61, 1999"
    known_failures = "Ghostly averages: correct means and correlations, no shapes."
    trains = False
    spaces = (ImageSpace, VectorSpace)
    mean: Tensor
    factors: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config:
        """components: principal components that are kept (all where there are fewer dimensions)."""

        components: int = 256

        def __post_init__(self) -> None:
            at_least_one(self, "components")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        rank = min(self.config.components, space.dimensions)
        self.register_buffer("mean", torch.full((space.dimensions,), math.nan))
        self.register_buffer("factors", torch.zeros(rank, space.dimensions))

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """Rows of ``factors`` are principal directions times standard deviations: covariance = factors^T factors.

        More than 512 dimensions: a randomised decomposition (Halko et al., 2009, arXiv 0909.4061).
        """
        x = torch.cat([batch.x.flatten(1) for batch in loader]).double()
        mean = x.mean(0)
        rank = min(len(self.factors), len(x))
        if x.shape[1] <= 512:
            _, values, directions = torch.linalg.svd(x - mean, full_matrices=False)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _, values, directions = torch.svd_lowrank(x - mean, q=min(rank + 10, *x.shape), niter=4)
                directions = directions.T
        self.mean.copy_(mean)
        self.factors.zero_()
        self.factors[:rank] = (values[:rank, None] * directions[:rank] / math.sqrt(max(len(x) - 1, 1))).float()

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        if self.mean.isnan().any():
            raise BenchError("Gaussian has not seen the training set; call fit_prior(loader) first")
        x = self.mean + generator.randn(len(self.factors)) @ self.factors
        x = x.view(n, *self.space.shape)
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x
