"""Pixel likelihoods and the KL divergence against scipy and torch.distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from reference_models.likelihood import continuous, discretised, gaussian_kl

LEVELS = torch.arange(256) / 127.5 - 1
FAMILIES = {"logistic": scipy.stats.logistic, "gaussian": scipy.stats.norm}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mean", [-1.7, -1.0, -0.31, 0.0, 0.99, 3.0])
@pytest.mark.parametrize("scale", [1e-3, 0.03, 0.5, 5.0])
def test_256_levels_sum_to_one(family: str, mean: float, scale: float) -> None:
    log_p = discretised(LEVELS, torch.tensor(mean), torch.tensor(scale).log(), family)
    assert log_p.isfinite().all()
    assert float(log_p.double().exp().sum()) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_bin_has_the_mass_that_scipy_gives_it(family: str) -> None:
    generator = np.random.default_rng()
    mean, scale = generator.uniform(-1, 1), generator.uniform(0.05, 0.5)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    mass = np.diff(FAMILIES[family](mean, scale).cdf(edges))
    found = discretised(LEVELS.double(), torch.tensor(mean), torch.tensor(scale).log(), family).exp().numpy()
    np.testing.assert_allclose(found, mass, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_far_tails_have_finite_values_and_useful_gradients(family: str) -> None:
    mean = torch.tensor([-0.9, 0.9], requires_grad=True)
    log_scale = torch.tensor(-3.5, requires_grad=True)
    log_p = discretised(torch.tensor([LEVELS[250], LEVELS[5]]), mean, log_scale, family)
    assert log_p.isfinite().all()
    log_p.sum().backward()
    assert mean.grad is not None
    assert log_scale.grad is not None
    assert mean.grad[0] > 0 > mean.grad[1]  # towards the data
    assert log_scale.grad > 0
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_finite_differences(family: str) -> None:
    x = LEVELS[torch.randint(1, 255, (6,))].double()
    mean = (torch.randn(6, dtype=torch.float64) / 2).requires_grad_()
    log_scale = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: discretised(x, m, s, family), (mean, log_scale), atol=1e-4)


@pytest.mark.parametrize("scale", [3e-4, 0.02, 1.0, 400.0])
@pytest.mark.parametrize("distance", [0.0, 0.5, 50.0, -1000.0])
def test_one_scale_for_all_gives_what_a_scale_for_each_gives(scale: float, distance: float) -> None:
    """The gradient that is written out against autograd's, values and slopes, in the tails and at both ends."""
    x = LEVELS.repeat(3, 1)
    found = []
    for shape in ((), x.shape):
        mean = (x + distance).clone().requires_grad_()
        log_scale = torch.full(shape, math.log(scale), requires_grad=True)
        log_p = discretised(x, mean, log_scale, "logistic")
        (log_p * torch.linspace(0.5, 2, 256)).sum().backward()
        assert log_p.isfinite().all()
        found.append((log_p.detach(), mean.grad, log_scale.grad.sum()))
    for mine, due in zip(*found, strict=True):
        torch.testing.assert_close(mine, due, rtol=1e-4, atol=1e-5 * float(due.abs().max()) + 1e-6)


def test_the_gradient_of_one_scale_for_all() -> None:
    x = LEVELS[[0, 3, 128, 255]].double()
    mean, log_scale = torch.randn(4).double().requires_grad_(), torch.tensor(-1.0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: discretised(x, m, s, "logistic"), (mean, log_scale), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_continuous_density(family: str) -> None:
    x, mean, scale = np.random.default_rng().normal(size=(3, 20))
    scale = np.exp(scale)
    found = continuous(torch.tensor(x), torch.tensor(mean), torch.tensor(scale).log(), family)
    np.testing.assert_allclose(found.numpy(), FAMILIES[family](mean, scale).logpdf(x), rtol=1e-6, atol=1e-9)


def test_kl_agrees_with_torch() -> None:
    mean, log_variance = torch.randn(2, 9, 5, dtype=torch.float64)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
