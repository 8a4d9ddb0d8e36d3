"""Samplers as plain stateless functions: a trained network as a callable, a start and a grid of times in, samples out.

Time runs over [0, 1]. Ordinary differential equations go from noise at 0 to data at 1 (the convention of flow matching),
diffusions from noise at 1 to data at 0 (the convention of DDPM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Any], Tensor]
"""``velocity(x, t)``: dx/dt. t: a number, or for the adaptive solver one time for each sample, ``(B,)``."""


class Denoised(NamedTuple):
    """What a denoiser says of x_t: the expected clean sample, the noise that goes with it, and the share of log beta in the log
    variance of an ancestral step, a number or a tensor of x's shape in [0, 1]."""

    x0: Tensor
    epsilon: Tensor
    variance_mix: Tensor | float = 0.0


Denoise = Callable[[Tensor, float], Denoised]
"""``denoise(x, t)``."""

Schedule = Callable[[float], float]
"""``alpha_bar(t)``: the share of the signal's variance that is left at time t; 1 at t = 0, near 0 at t = 1."""


def uniform_times(start: float, end: float, steps: int) -> list[float]:
    """``steps + 1`` equally spaced times from ``start`` to ``end``, both exact."""
    return [start + (end - start) * step / steps for step in range(steps)] + [end]


def sample_euler(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Solve dx/dt = velocity(x, t) with the method of Euler: first order, one evaluation per step."""
    for now, after in pairwise(times):
        x = x + (after - now) * velocity(x, now)
    return x


def sample_midpoint(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Solve dx/dt = velocity(x, t) with the explicit midpoint method: second order, two evaluations per step."""
    for now, after in pairwise(times):
        half = x + 0.5 * (after - now) * velocity(x, now)
        x = x + (after - now) * velocity(half, 0.5 * (now + after))
    return x


def sample_heun(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Solve dx/dt = velocity(x, t) with the method of Heun (explicit trapezoid): second order, two evaluations per step."""
    for now, after in pairwise(times):
        slope = velocity(x, now)
        end = x + (after - now) * slope
        x = x + 0.5 * (after - now) * (slope + velocity(end, after))
    return x


def sample_adaptive(velocity: Velocity, x: Tensor, times: Sequence[float], tolerance: float = 1e-3) -> Tensor:
    """Solve dx/dt = velocity(x, t) with the pair of Bogacki and Shampine (order 3, error estimate of order 2; Appl. Math. Letters 2, 1989).

    times: only the first and the last count; the first step tried is their first difference. Every sample has its own step
    size, chosen so that its estimated error stays below ``tolerance`` (absolute and relative, root mean square), and its own
    clock, hence a result that does not depend on the rest of the batch. Three evaluations per step and one more, because a step
    that is accepted begins where the one before it ended. At most 1000 steps.
    """
    end, sign = times[-1], 1.0 if times[-1] > times[0] else -1.0
    shape = (-1, *[1] * (x.ndim - 1))
    t = torch.full((len(x),), times[0], dtype=torch.float64, device=x.device)
    h = torch.full_like(t, abs(times[1] - times[0]))

    def slope(at: Tensor, x: Tensor) -> Tensor:
        return velocity(x, at.to(x.dtype))

    k1 = slope(t, x)
    for _ in range(1000):
        left = (sign * (end - t)).clamp_min(0)
        active = left > 1e-9
        if not bool(active.any()):
            break
        h = torch.minimum(h, left)
        step = (sign * h).to(x.dtype).view(shape)
        k2 = slope(t + sign * h / 2, x + step * k1 / 2)
        k3 = slope(t + sign * 0.75 * h, x + step * 0.75 * k2)
        after = x + step * (2 * k1 + 3 * k2 + 4 * k3) / 9
        k4 = slope(t + sign * h, after)
        error = step * (-5 * k1 + 6 * k2 + 8 * k3 - 9 * k4) / 72
        scale = tolerance * (1 + torch.maximum(x.abs(), after.abs()))
        size = (error / scale).square().flatten(1).mean(1).sqrt().double()
        good = active & (size <= 1)
        x, k1 = torch.where(good.view(shape), after, x), torch.where(good.view(shape), k4, k1)
        t = torch.where(good, t + sign * h, t)
        h = torch.where(active, h * (0.9 * size.clamp_min(1e-6) ** (-1 / 3)).clamp(0.2, 5), h)
    return x


ODE_SAMPLERS = {"euler": sample_euler, "midpoint": sample_midpoint, "heun": sample_heun}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}  # of the network, per step


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    times: Sequence[float],
    alpha_bar: Schedule,
    randn_like: Callable[[Tensor], Tensor],
    eta: float = 0.0,
) -> Tensor:
    """Denoising diffusion implicit models (2020, arXiv 2010.02502), equations 12 and 16: one evaluation per step.

    times: falling, the last one 0. eta: 0 is deterministic, 1 adds as much noise as the posterior of DDPM has.
    randn_like: standard normal noise in the shape of its argument; called only where eta > 0.
    """
    for now, after in pairwise(times):
        x0, epsilon, _ = denoise(x, now)
        a, b = alpha_bar(now), alpha_bar(after)
        variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        x = math.sqrt(b) * x0 + math.sqrt(max(1 - b - variance, 0.0)) * epsilon
        if variance > 0:
            x = x + math.sqrt(variance) * randn_like(x)
    return x


def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    times: Sequence[float],
    alpha_bar: Schedule,
    randn_like: Callable[[Tensor], Tensor],
) -> Tensor:
    """Ancestral sampling from the posterior q(x_after | x_now, x0) of DDPM (2020, arXiv 2006.11239), equation 7.

    times: falling, the last one 0; every subset of the training times is a diffusion of its own. One evaluation per step.
    The log variance lies between that of the posterior (mix 0) and log beta (mix 1), as in equation 15 of Improved DDPM (2021,
    arXiv 2102.09672).
    """
    for now, after in pairwise(times):
        x0, _, mix = denoise(x, now)
        a, b = alpha_bar(now), alpha_bar(after)
        alpha = a / b  # of this one step
        x = (math.sqrt(b) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - b) * x) / (1 - a)
        if b < 1:
            posterior, beta = math.log((1 - alpha) * (1 - b) / (1 - a)), math.log(1 - alpha)
            log_variance = torch.as_tensor(posterior + mix * (beta - posterior), dtype=x.dtype, device=x.device)
            x = x + (0.5 * log_variance).exp() * randn_like(x)
    return x


def sample_heun_diffusion(denoise: Denoise, x: Tensor, times: Sequence[float], alpha_bar: Schedule) -> Tensor:
    """The probability flow of a diffusion by the method of Heun: with y = x / sqrt(alpha_bar) and sigma^2 = 1 / alpha_bar - 1 it is
    dy / dsigma = epsilon (DDIM, 2020, arXiv 2010.02502, section 4.3; Euler's method on it is DDIM).

    times: falling. Two evaluations per step, one in a step to 0. Second order.
    """
    for now, after in pairwise(times):
        a, b = alpha_bar(now), alpha_bar(after)
        y, change = x / math.sqrt(a), math.sqrt(1 / b - 1) - math.sqrt(1 / a - 1)
        slope = denoise(x, now).epsilon
        if b < 1:
            end = denoise(math.sqrt(b) * (y + change * slope), after).epsilon
            slope = 0.5 * (slope + end)
        x = math.sqrt(b) * (y + change * slope)
    return x


def sample_dpm_solver(denoise: Denoise, x: Tensor, times: Sequence[float], alpha_bar: Schedule) -> Tensor:
    """DPM-Solver++(2M), the multistep solver of second order in x0 (2022, arXiv 2211.01095, algorithm 2). One evaluation per step.

    With lambda = log(alpha / sigma) and h its change: x <- sigma_after / sigma_now x - alpha_after (e^-h - 1) D, where D continues the
    last two x0 linearly in lambda. The first step, and one to t = 0 (where lambda is infinite), use the newest x0 alone.
    """
    last: tuple[Tensor, float] | None = None  # x0 and h of the step before
    for now, after in pairwise(times):
        x0 = denoise(x, now).x0
        a, b = alpha_bar(now), alpha_bar(after)
        if b >= 1:
            x = x0
            continue
        h = 0.5 * (math.log(b / (1 - b)) - math.log(a / (1 - a)))
        direction = x0 if last is None else x0 + (x0 - last[0]) * (0.5 * h / last[1])
        x = math.sqrt((1 - b) / (1 - a)) * x - math.sqrt(b) * math.expm1(-h) * direction
        last = x0, h
    return x


class DiffusionSampler(NamedTuple):
    """solver: one of the functions above. evaluations: of the network, for a number of steps. stochastic: takes ``randn_like``.
    smallest: alpha_bar at which it starts; solvers of higher order gain nothing where there is next to no signal yet."""

    solver: Callable[..., Tensor]
    evaluations: Callable[[int], int]
    stochastic: bool
    smallest: float


DIFFUSION_SAMPLERS = {
    "ddim": DiffusionSampler(sample_ddim, lambda steps: steps, True, 0.0),
    "ddpm": DiffusionSampler(sample_ddpm, lambda steps: steps, True, 0.0),
    "heun": DiffusionSampler(sample_heun_diffusion, lambda steps: 2 * steps - 1, False, 1e-4),
    "dpm-solver++": DiffusionSampler(sample_dpm_solver, lambda steps: steps, False, 1e-4),
}


def falling_times(steps: int, alpha_bar: Schedule, smallest: float = 0.0, grid: int = 1000) -> list[float]:
    """``steps + 1`` times on the grid of thousandths, evenly from the last at which alpha_bar is at least ``smallest`` down to 0."""
    first = next(index for index in range(grid, 0, -1) if alpha_bar(index / grid) >= smallest)
    indices = {round(first * (1 - step / steps)) for step in range(steps)}  # a set: more steps than times meet twice
    return [index / grid for index in sorted(indices - {0}, reverse=True)] + [0.0]


def network_evaluations(sampler: str, steps: int, alpha_bar: Schedule) -> int:
    """Evaluations that ``sample_diffusion`` makes: near a thousand steps fewer than asked for, since times that meet are taken once."""
    kind = DIFFUSION_SAMPLERS[sampler]
    return kind.evaluations(len(falling_times(steps, alpha_bar, kind.smallest)) - 1)


def sample_diffusion(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: Schedule,
    randn_like: Callable[[Tensor], Tensor],
    *,
    sampler: str,
    steps: int,
    eta: float = 0.0,
) -> Tensor:
    """From standard normal noise ``x`` to samples, by the sampler of that name in ``DIFFUSION_SAMPLERS``. eta: of DDIM."""
    kind = DIFFUSION_SAMPLERS[sampler]
    times = falling_times(steps, alpha_bar, kind.smallest)
    extra: tuple[Any, ...] = (randn_like,) if kind.stochastic else ()
    if sampler == "ddim":
        extra += (eta,)
    return kind.solver(denoise, x, times, alpha_bar, *extra)


def karras_sigmas(steps: int, smallest: float, largest: float, rho: float = 7.0) -> list[float]:
    """``steps`` noise levels falling from ``largest`` to ``smallest``, evenly in sigma^(1/rho), then 0 (EDM, equation 5)."""
    if steps == 1:
        return [largest, 0.0]
    high, low = largest ** (1 / rho), smallest ** (1 / rho)
    between = [(high + step / (steps - 1) * (low - high)) ** rho for step in range(1, steps - 1)]
    return [largest, *between, smallest, 0.0]


def sample_edm(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    sigmas: Sequence[float],
    randn_like: Callable[[Tensor], Tensor],
    *,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
) -> Tensor:
    """Heun's method on dx / dsigma = (x - D(x; sigma)) / sigma, with noise added and removed again at each step where ``churn`` > 0.

    "Elucidating the Design Space of Diffusion-Based Generative Models" (2022, arXiv 2206.00364), algorithm 2. denoise: D(x, sigma).
    x: at sigmas[0]. sigmas: falling, the last one 0. churn: spread over all steps; only those with sigma in ``churn_range`` take it.
    Two evaluations per step, one in the last.
    """
    most = math.sqrt(2) - 1
    for now, after in pairwise(sigmas):
        gamma = min(churn / (len(sigmas) - 1), most) if churn_range[0] <= now <= churn_range[1] else 0.0
        if gamma > 0:
            raised = now * (1 + gamma)
            x = x + math.sqrt(raised**2 - now**2) * churn_noise * randn_like(x)
            now = raised
        slope = (x - denoise(x, now)) / now
        end = x + (after - now) * slope
        if after > 0:
            slope = 0.5 * (slope + (end - denoise(end, after)) / after)
            end = x + (after - now) * slope
        x = end
    return x
