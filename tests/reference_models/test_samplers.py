"""Samplers against ordinary differential equations and Gaussian diffusions with known solutions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from reference_models.forward_process import cosine_schedule, linear_schedule
from reference_models.samplers import (
    DIFFUSION_SAMPLERS,
    EVALUATIONS,
    ODE_SAMPLERS,
    Denoised,
    falling_times,
    karras_sigmas,
    network_evaluations,
    sample_adaptive,
    sample_ddim,
    sample_ddpm,
    sample_diffusion,
    sample_dpm_solver,
    sample_edm,
    sample_heun_diffusion,
    uniform_times,
)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_accuracy(name: str, order: int) -> None:
    """dx/dt = x cos t from x(0) = x0 has the solution x0 exp(sin t); halving the step divides the error by 2^order."""
    x0 = torch.randn(5, dtype=torch.float64)
    errors = []
    for steps in (40, 80):
        x = ODE_SAMPLERS[name](lambda x, t: x * math.cos(t), x0, uniform_times(0.0, 1.0, steps))
        errors.append(float((x - x0 * math.exp(math.sin(1.0))).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", sorted(ODE_SAMPLERS))
def test_evaluations_are_counted_right(name: str) -> None:
    calls = []

    def velocity(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return torch.ones_like(x)

    x = ODE_SAMPLERS[name](velocity, torch.zeros(3), uniform_times(0.0, 1.0, 7))
    assert len(calls) == 7 * EVALUATIONS[name]
    assert min(calls) == 0.0
    assert max(calls) <= 1.0
    torch.testing.assert_close(x, torch.ones(3))  # a constant velocity is integrated exactly


def test_uniform_times_are_exact_at_both_ends() -> None:
    times = uniform_times(1.0, 0.0, 3)
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert len(times) == 4


class GaussianData:
    """The optimal denoiser of data ~ N(mean, std^2) under a schedule: linear, hence every sampler is known exactly."""

    def __init__(self, alphas_cumprod: Tensor, mean: float, std: float) -> None:
        self.alphas, self.mean, self.std = alphas_cumprod, mean, std

    def alpha_bar(self, t: float) -> float:
        return float(self.alphas[round(1000 * t)])

    def denoise(self, x: Tensor, t: float) -> Denoised:
        a = self.alpha_bar(t)
        gain = math.sqrt(a) * self.std**2 / (a * self.std**2 + 1 - a)
        x0 = self.mean + gain * (x - math.sqrt(a) * self.mean)
        return Denoised(x0, (x - math.sqrt(a) * x0) / math.sqrt(1 - a))


@pytest.fixture(params=[cosine_schedule, linear_schedule])
def gaussian(request: pytest.FixtureRequest) -> GaussianData:
    return GaussianData(request.param(), mean=0.7, std=0.4)


def grid(steps: int) -> list[float]:
    return [round(1000 * (1 - step / steps)) / 1000 for step in range(steps)] + [0.0]


def test_ddim_carries_noise_to_the_data_distribution(gaussian: GaussianData) -> None:
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)
    out = sample_ddim(gaussian.denoise, x, grid(1000), gaussian.alpha_bar, torch.randn_like)
    torch.testing.assert_close(out, gaussian.mean + gaussian.std * x, atol=0.02, rtol=0)


def test_ddpm_samples_have_the_moments_of_the_data(gaussian: GaussianData) -> None:
    generator = torch.Generator().manual_seed(0)

    def randn_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    x = randn_like(torch.empty(20_000, dtype=torch.float64))
    out = sample_ddpm(gaussian.denoise, x, grid(1000), gaussian.alpha_bar, randn_like)
    assert float(out.mean()) == pytest.approx(gaussian.mean, abs=5 * gaussian.std / math.sqrt(len(x)))
    assert float(out.std()) == pytest.approx(gaussian.std, rel=0.03)


@pytest.mark.parametrize("steps", [1000, 10])
def test_ddim_with_eta_one_is_ddpm(gaussian: GaussianData, steps: int) -> None:
    """Same noise, same numbers: the two formulas are written independently of each other."""
    x, results = torch.randn(50, dtype=torch.float64), []
    for sampler, arguments in ((sample_ddim, (1.0,)), (sample_ddpm, ())):
        generator = torch.Generator().manual_seed(3)

        def randn_like(x: Tensor, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        results.append(sampler(gaussian.denoise, x, grid(steps), gaussian.alpha_bar, randn_like, *arguments))
    torch.testing.assert_close(results[0], results[1], atol=1e-9, rtol=1e-9)


def test_ddpm_step_is_the_gaussian_posterior(gaussian: GaussianData) -> None:
    """q(x_s | x_t, x_0) by Bayes' rule: the product of two Gaussians in x_s."""
    t, s = 0.6, 0.3
    a, b = gaussian.alpha_bar(t), gaussian.alpha_bar(s)
    x = torch.randn(7, dtype=torch.float64)
    x0 = gaussian.denoise(x, t).x0
    precision = (a / b) / (1 - a / b) + 1 / (1 - b)
    mean = (math.sqrt(a / b) * x / (1 - a / b) + math.sqrt(b) * x0 / (1 - b)) / precision
    for noise in (0.0, 1.0):
        step = sample_ddpm(gaussian.denoise, x, [t, s], gaussian.alpha_bar, lambda x, z=noise: torch.full_like(x, z))
        torch.testing.assert_close(step, mean + noise / math.sqrt(precision))


def test_variance_of_an_ancestral_step_goes_from_the_posterior_to_beta(gaussian: GaussianData) -> None:
    a, b = gaussian.alpha_bar(0.6), gaussian.alpha_bar(0.3)
    x = torch.zeros(1, dtype=torch.float64)
    for mix, variance in (
        (0.0, (1 - b) / (1 - a) * (1 - a / b)),
        (1.0, 1 - a / b),
        (torch.full_like(x, 0.5), (1 - a / b) * math.sqrt((1 - b) / (1 - a))),
    ):

        def denoise(x: Tensor, t: float, mix: Tensor | float = mix) -> Denoised:
            return gaussian.denoise(x, t)._replace(variance_mix=mix)

        high, low = (sample_ddpm(denoise, x, [0.6, 0.3], gaussian.alpha_bar, lambda x, z=z: z + 0 * x) for z in (1, 0))
        assert float(high - low) ** 2 == pytest.approx(variance)


class ContinuousGaussian(GaussianData):
    """The same with alpha_bar = cos^2(pi t / 2) at any time: for orders of convergence."""

    def __init__(self) -> None:
        super().__init__(torch.empty(0), mean=0.7, std=0.4)

    def alpha_bar(self, t: float) -> float:
        return math.cos(0.5 * math.pi * t) ** 2

    def flow(self, x: Tensor, t: float, s: float) -> Tensor:
        """Where the probability flow carries x from t to s: marginals are Gaussian, quantiles are kept."""
        alphas = [self.alpha_bar(t), self.alpha_bar(s)]
        mean = [math.sqrt(a) * self.mean for a in alphas]
        std = [math.sqrt(a * self.std**2 + 1 - a) for a in alphas]
        return mean[1] + (x - mean[0]) * std[1] / std[0]


@pytest.mark.parametrize(("solver", "order"), [(sample_heun_diffusion, 2), (sample_dpm_solver, 2)])
def test_order_of_diffusion_solvers(solver: object, order: int) -> None:
    gaussian = ContinuousGaussian()
    x, errors = torch.linspace(-2, 2, 9, dtype=torch.float64), []
    for steps in (40, 80, 160):
        out = solver(gaussian.denoise, x, uniform_times(0.9, 0.1, steps), gaussian.alpha_bar)  # type: ignore[operator]
        errors.append(float((out - gaussian.flow(x, 0.9, 0.1)).abs().max()))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("sampler", ["heun", "dpm-solver++"])
def test_second_order_beats_ddim_at_equal_evaluations(gaussian: GaussianData, sampler: str) -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = gaussian.mean + gaussian.std * x
    error = {}
    for name, steps in (("ddim", 60), (sampler, 30 if sampler == "heun" else 60)):
        out = sample_diffusion(gaussian.denoise, x, gaussian.alpha_bar, torch.zeros_like, sampler=name, steps=steps)
        error[name] = float((out - exact).abs().max())
    assert error[sampler] < 0.7 * error["ddim"]


@pytest.mark.parametrize("steps", [1, 9, 900, 999, 1000])
@pytest.mark.parametrize("sampler", sorted(DIFFUSION_SAMPLERS))
def test_evaluations_of_diffusion_samplers(gaussian: GaussianData, sampler: str, steps: int) -> None:
    """Near a thousand steps two times can meet on the grid of thousandths; then there is one evaluation, and one is counted."""
    calls = []

    def denoise(x: Tensor, t: float) -> Denoised:
        calls.append(t)
        return gaussian.denoise(x, t)

    sample_diffusion(denoise, torch.zeros(2), gaussian.alpha_bar, torch.zeros_like, sampler=sampler, steps=steps)
    assert len(calls) == network_evaluations(sampler, steps, gaussian.alpha_bar)
    assert min(calls) > 0


def test_times_fall_to_zero_and_never_repeat(gaussian: GaussianData) -> None:
    for steps in (1, 7, 1000):
        times = falling_times(steps, gaussian.alpha_bar, 1e-4)
        assert times[-1] == 0
        assert all(a > b for a, b in pairwise(times))
        assert gaussian.alpha_bar(times[0]) >= 1e-4


def test_adaptive_solver_keeps_its_tolerance_and_each_sample_its_own_steps() -> None:
    x0 = torch.tensor([[1.0], [-0.3], [4.0]], dtype=torch.float64)
    calls = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x * t.cos()[:, None]

    out = sample_adaptive(velocity, x0, [0.0, 0.1, 1.0], tolerance=1e-5)
    torch.testing.assert_close(out, x0 * math.exp(math.sin(1.0)), atol=0, rtol=1e-4)
    assert 8 < calls < 200
    assert calls % 3 == 1  # a step that is accepted begins where the one before it ended
    torch.testing.assert_close(sample_adaptive(velocity, x0[1:2], [0.0, 0.1, 1.0], tolerance=1e-5), out[1:2])


def edm_error(steps: int) -> float:
    """Of ``sample_edm`` for data N(0, 0.5^2), whose flow is x(sigma) = x(S) sqrt((0.25 + sigma^2) / (0.25 + S^2))."""
    x, largest = torch.linspace(-80, 80, 9, dtype=torch.float64), 80.0
    out = sample_edm(
        lambda x, sigma: x * 0.25 / (0.25 + sigma**2), x, karras_sigmas(steps, 0.002, largest), torch.zeros_like
    )
    return float((out - x * math.sqrt(0.25 / (0.25 + largest**2))).abs().max())


def test_edm_is_exact_on_gaussian_data_and_of_second_order() -> None:
    assert edm_error(18) < 0.04  # of samples in [-0.5, 0.5]
    assert edm_error(256) < 1.5e-4
    assert math.log2(edm_error(64) / edm_error(128)) == pytest.approx(2, abs=0.3)


def test_edm_with_churn_keeps_the_distribution() -> None:
    torch.manual_seed(0)
    x = 80 * torch.randn(20_000, dtype=torch.float64)
    out = sample_edm(
        lambda x, sigma: x * 0.25 / (0.25 + sigma**2), x, karras_sigmas(160, 0.002, 80.0), torch.randn_like, churn=40
    )
    assert float(out.std()) == pytest.approx(0.5, rel=0.02)
    assert not torch.allclose(out, x * math.sqrt(0.25 / (0.25 + 80**2)), atol=0.01)


def test_karras_sigmas_fall_evenly_in_their_root() -> None:
    sigmas = karras_sigmas(5, 0.002, 80.0)
    roots = torch.tensor(sigmas[:-1]).double() ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(4), atol=1e-6, rtol=1e-5)
    assert (sigmas[0], sigmas[-2], sigmas[-1]) == (80.0, 0.002, 0.0)
    assert karras_sigmas(1, 0.002, 80.0) == [80.0, 0.0]
