"""Baselines between copying and modelling: training examples mixed with their neighbours, and a Gaussian mixture on principal components."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.baselines import Baseline, Gaussian, TrainingSet
from reference_models.gaussian_mixture import GaussianMixture
from reference_models.options import at_least_one

ROWS_AT_A_TIME = 512


class NearestNeighbours(TrainingSet):
    """A random point between a training example and one of its nearest neighbours."""

    family = "baseline"
    paper = "SMOTE: Synthetic Minority Over-sampling Technique, 2002, arXiv 1106.1813"
    known_failures = (
        "Double exposures of two training images: nearly copies by most metrics, and generalisation by none."
    )
    trains = False
    spaces = (ImageSpace, VectorSpace)
    neighbours: Tensor | None

    @dataclasses.dataclass(frozen=True)
    class Config:
        """k: how many nearest neighbours of an example it may be mixed with."""

        k: int = 5

        def __post_init__(self) -> None:
            at_least_one(self, "k")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.register_buffer("neighbours", None, persistent=False)

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """Finds the ``k`` nearest other examples of each by Euclidean distance; fewer where there are fewer examples."""
        super().fit_prior(loader)
        data = self.training_data()
        flat, k = data.flatten(1), min(self.config.k, len(data) - 1)
        if k < 1:
            raise BenchError("NearestNeighbours needs at least 2 training examples; give it more data")
        found = []
        for start in range(0, len(flat), ROWS_AT_A_TIME):
            distance = torch.cdist(flat[start : start + ROWS_AT_A_TIME], flat)
            distance.diagonal(start).fill_(math.inf)  # nobody is a neighbour of itself, duplicates are
            found.append(distance.topk(k, largest=False).indices)
        self.neighbours = torch.cat(found)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        data = self.training_data()
        assert self.neighbours is not None
        first = generator.randint(len(data))
        which = generator.randint(self.neighbours.shape[1])
        second = self.neighbours[first, which]
        share = generator.rand(1).view(n, *[1] * len(self.space.shape))
        return torch.lerp(data[first], data[second], share)


class PCAMixture(Baseline):
    """A Gaussian mixture on the leading principal components, and independent noise for the rest of the variance."""

    family = "baseline"
    paper = "Mixtures of Probabilistic Principal Component Analyzers, Tipping and Bishop, Neural Computation 11, 1999"
    known_failures = "Clusters are right, strokes are not: a fog of superposed examples, as linear models draw it."
    trains = False
    spaces = (ImageSpace, VectorSpace)
    noise: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config:
        """components: principal components that are kept. mixture: Gaussians fitted on them."""

        components: int = 48
        mixture: int = 10

        def __post_init__(self) -> None:
            at_least_one(self, "components", "mixture")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        rank = min(self.config.components, space.dimensions)
        self.linear = Gaussian(space, components=rank)
        self.mixture = GaussianMixture(self.config.mixture, rank)
        self.register_buffer("noise", torch.zeros(space.dimensions))

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """The principal components by ``Gaussian``; the mixture on the coordinates along them, each of variance 1."""
        loader = list(loader)
        self.linear.fit_prior(loader)
        x = torch.cat([batch.x.flatten(1) for batch in loader]).double() - self.linear.mean.double()
        factors = self.linear.factors.double()
        coordinates = x @ factors.T / factors.square().sum(1).clamp_min(1e-12)
        self.mixture.fit(coordinates)
        self.noise.copy_((x - coordinates @ factors).std(0, correction=0))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        x = self.linear.mean + self.mixture.sample(generator) @ self.linear.factors
        x = (x + self.noise * generator.randn(self.space.dimensions)).view(n, *self.space.shape)
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x
