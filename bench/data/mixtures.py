"""``ring8`` and ``grid25``: two-dimensional Gaussian mixtures whose density is known, to test coverage and likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log, pi, sqrt

import numpy as np
from scipy.special import logsumexp

from bench.data.base import Data, Dataset
from bench.data.options import whole_number
from bench.space import VectorSpace

QUADRATURE_NODES = 96


class GaussianMixture:
    """Equally weighted round Gaussians in the plane, ``p(x) = 1/K sum_k N(x; centers[k], std^2 I)``.

    centers: ``(K, 2)`` float64. std: standard deviation of each component along each axis.
    """

    def __init__(self, centers: np.ndarray, std: float) -> None:
        self.centers = np.asarray(centers, dtype=np.float64)
        self.std = float(std)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log density in nats, ``(N, 2)`` -> ``(N,)`` float64."""
        x = np.asarray(x, dtype=np.float64)
        out = np.empty(len(x))
        for start in range(0, len(x), 8192):
            offsets = x[start : start + 8192, None, :] - self.centers
            exponents = -0.5 * np.square(offsets / self.std).sum(-1)
            out[start : start + 8192] = logsumexp(exponents, axis=1)
        return out - log(len(self.centers)) - log(2 * pi * self.std**2)

    @cached_property
    def entropy(self) -> float:
        """Differential entropy in nats, ``-E[log p(x)]``: the lowest negative log likelihood that a model can reach.

        Gauss-Hermite quadrature around each component: exact to rounding where components are apart, to about 1e-7 where they
        overlap.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
        weights = weights / weights.sum()
        offsets = self.std * np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
        mass = np.outer(weights, weights).ravel()
        return float(np.mean([-(mass @ self.log_prob(center + offsets)) for center in self.centers]))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """``n`` points ``(n, 2)`` float64 and the component ``(n,)`` int64 that each was drawn from."""
        components = rng.integers(len(self.centers), size=n)
        return self.centers[components] + self.std * rng.standard_normal((n, 2)), components

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest center of each point ``(N, 2)``: its index ``(N,)`` int64 and the distance in units of ``std`` ``(N,)``."""
        distances = np.linalg.norm(np.asarray(x, dtype=np.float64)[:, None, :] - self.centers, axis=-1)
        index = distances.argmin(1)
        return index, distances[np.arange(len(index)), index] / self.std


@dataclass(frozen=True)
class MixtureOptions:
    """size, test_size: number of points, drawn independently. seed: of the draw."""

    size: int = 20_000
    test_size: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("size", self.size, 1, 10_000_000)
        whole_number("test_size", self.test_size, 1, 10_000_000)
        whole_number("seed", self.seed, 0, 2**32 - 1)


class Ring8(Dataset):
    """Eight Gaussians on a circle, in the plane, with known density."""

    licence = "CC0-1.0 (generated)"
    attribution = ""
    paper = "Metz, Poole, Pfau and Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2016, arXiv 1611.02163"
    Options = MixtureOptions

    def load(self) -> Data:
        """Circle of radius 2 and standard deviation 0.02 as published, scaled to unit variance along each axis."""
        return _draw("ring8", ring8(), self.options)


class Grid25(Dataset):
    """Twenty-five Gaussians on a 5x5 grid, in the plane, with known density."""

    licence = "CC0-1.0 (generated)"
    attribution = ""
    paper = "Dumoulin et al., Adversarially Learned Inference, 2016, arXiv 1606.00704"
    Options = MixtureOptions

    def load(self) -> Data:
        """Grid from -4 to 4 in steps of 2 and standard deviation 0.05 as in the literature, scaled to unit variance."""
        return _draw("grid25", grid25(), self.options)


def ring8() -> GaussianMixture:
    angles = 2 * pi * np.arange(8) / 8
    return _unit_variance(2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), std=0.02)


def grid25() -> GaussianMixture:
    axis = np.arange(-4.0, 5.0, 2.0)
    return _unit_variance(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2), std=0.05)


def _unit_variance(centers: np.ndarray, std: float) -> GaussianMixture:
    scale = 1 / sqrt(np.square(centers).mean() + std**2)
    return GaussianMixture(scale * centers, scale * std)


def _draw(name: str, truth: GaussianMixture, options: MixtureOptions) -> Data:
    points, components = truth.sample(options.size + options.test_size, np.random.default_rng(options.seed))
    points = points.astype(np.float32)
    return Data(
        name=name,
        space=VectorSpace(2),
        train=points[: options.size],
        test=points[options.size :],
        train_labels=components[: options.size],
        test_labels=components[options.size :],
        classes=tuple(str(k) for k in range(len(truth.centers))),
        truth=truth,
    )
