"""A Gaussian mixture with full covariances: the prior that is fitted on the latents of a model that has none."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.model import BenchError, SampleGenerator


class GaussianMixture(nn.Module):
    """``components`` Gaussians in R^d. Everything that was fitted is a buffer, so state dicts carry it.

    log_weights: ``(K,)``; means: ``(K, d)``; factors: ``(K, d, d)``, the lower Cholesky factors of the covariances.
    fitted: whether ``fit`` was called; sampling from an unfitted mixture raises BenchError.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(self, components: int, size: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("factors", torch.eye(size).repeat(components, 1, 1))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def fit(self, z: Tensor, *, iterations: int = 100, tolerance: float = 1e-3, regularisation: float = 1e-3) -> None:
        """Expectation maximisation on z ``(N, d)`` in float64, from a k-means start; the same z gives the same mixture.

        Ends when the mean log likelihood rises by less than ``tolerance`` nats. regularisation: this share of the mean
        variance of z is added to the diagonal of every covariance, which keeps them positive definite. Where N is
        smaller than the number of components, the others keep weight 0.
        """
        z = z.double()
        count = min(len(self.means), len(z))
        floor = regularisation * float(z.var(0, correction=0).mean()) + 1e-12
        responsibility = nn.functional.one_hot(nearest(z, kmeans(z, count)), count).double()
        previous = -math.inf
        for _ in range(iterations):
            log_weights, means, factors = maximisation(z, responsibility, floor)
            joint = log_weights + gaussian_log_density(z, means, factors)
            total = joint.logsumexp(1, keepdim=True)
            responsibility = (joint - total).exp()
            current = float(total.mean())
            if current - previous < tolerance:
                break
            previous = current
        self.log_weights.fill_(-math.inf)
        self.log_weights[:count] = log_weights.float()
        self.means[:count] = means.float()
        self.factors[:count] = factors.float()
        self.fitted.fill_(True)

    def sample(self, generator: SampleGenerator) -> Tensor:
        """``(n, d)`` float32, ``n`` given by the generator."""
        if not self.fitted:
            raise BenchError("the prior of this model is not fitted; call fit_prior(loader) before sample()")
        component = generator.categorical(self.log_weights.expand(generator.n, -1))
        noise = generator.randn(self.means.shape[1])
        return self.means[component] + (self.factors[component] * noise[:, None, :]).sum(2)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(N, d) -> (N,)`` float64."""
        each = gaussian_log_density(z.double(), self.means.double(), self.factors.double())
        return (self.log_weights.double() + each).logsumexp(1)


def maximisation(z: Tensor, responsibility: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The M step: ``(N, d)`` points and ``(N, K)`` responsibilities -> log weights, means, Cholesky factors."""
    mass = responsibility.sum(0) + 1e-10
    means = (responsibility.T @ z) / mass[:, None]
    factors = []
    for k, mean in enumerate(means):  # one component at a time: (N, d) memory instead of (N, K, d)
        centred = z - mean
        covariance = (responsibility[:, k, None] * centred).T @ centred / mass[k]
        covariance.diagonal().add_(floor)
        factors.append(torch.linalg.cholesky(covariance))
    return (mass / mass.sum()).log(), means, torch.stack(factors)


def gaussian_log_density(z: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """log N(z; mean_k, factor_k factor_k^T): ``(N, d), (K, d), (K, d, d) -> (N, K)``."""
    columns = []
    for mean, factor in zip(means, factors):
        white = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False)
        log_determinant = factor.diagonal().log().sum()
        columns.append(-0.5 * white.square().sum(0) - log_determinant - 0.5 * z.shape[1] * math.log(2 * math.pi))
    return torch.stack(columns, dim=1)


def kmeans(z: Tensor, count: int, iterations: int = 25) -> Tensor:
    """Lloyd's algorithm from k-means++ centres (Arthur and Vassilvitskii, 2007), seeded: ``(N, d) -> (count, d)``."""
    generator = torch.Generator().manual_seed(0)
    centres = z[:1]
    while len(centres) < count:
        distance = torch.cdist(z, centres).min(1).values.square().cpu() + 1e-12
        centres = torch.cat([centres, z[torch.multinomial(distance, 1, generator=generator).to(z.device)]])
    for _ in range(iterations):
        member = nn.functional.one_hot(nearest(z, centres), count).to(z.dtype)
        mass = member.sum(0)[:, None]
        centres = torch.where(mass > 0, (member.T @ z) / mass.clamp_min(1), centres)
    return centres


def nearest(z: Tensor, centres: Tensor) -> Tensor:
    """The index of the nearest centre, ``(N, d), (K, d) -> (N,)``."""
    return torch.cdist(z, centres).argmin(1)
