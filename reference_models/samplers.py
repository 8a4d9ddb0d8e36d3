"""Samplers as plain stateless functions: a trained network as a callable, a start and a grid of times in, samples out.

Time runs over [0, 1]. Ordinary differential equations go from noise at 0 to data at 1 (the convention of flow matching),
diffusions from noise at 1 to data at 0 (the convention of DDPM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""``velocity(x, t)``: dx/dt."""

Denoise = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``denoise(x, t) -> (x0, epsilon)``: the expected clean sample and the noise that go with x at time t."""

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
        x0, epsilon = denoise(x, now)
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
    """
    for now, after in pairwise(times):
        x0, _ = denoise(x, now)
        a, b = alpha_bar(now), alpha_bar(after)
        alpha = a / b  # of this one step
        mean = (math.sqrt(b) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - b) * x) / (1 - a)
        variance = (1 - alpha) * (1 - b) / (1 - a)
        x = mean if variance <= 0 else mean + math.sqrt(variance) * randn_like(x)
    return x
