"""Samplers as plain stateless functions: a network's prediction, noise and a schedule in, samples out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""``velocity(x, t)`` of an ordinary differential equation dx/dt = v(x, t)."""

Denoise = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``denoise(x, t) -> (x0, epsilon)``: the predicted clean sample and noise at diffusion time t in [0, 1]."""


def euler(velocity: Velocity, x: Tensor, times: list[float]) -> Tensor:
    """First order; one evaluation a step. times: from start to end."""
    for t, following in zip(times, times[1:]):
        x = x + (following - t) * velocity(x, t)
    return x


def midpoint(velocity: Velocity, x: Tensor, times: list[float]) -> Tensor:
    """Second order; two evaluations a step."""
    for t, following in zip(times, times[1:]):
        h = following - t
        x = x + h * velocity(x + 0.5 * h * velocity(x, t), t + 0.5 * h)
    return x


def heun(velocity: Velocity, x: Tensor, times: list[float]) -> Tensor:
    """Second order (explicit trapezoid); two evaluations a step."""
    for t, following in zip(times, times[1:]):
        h = following - t
        first = velocity(x, t)
        x = x + 0.5 * h * (first + velocity(x + h * first, following))
    return x


ODE_SOLVERS: dict[str, Callable[[Velocity, Tensor, list[float]], Tensor]] = {
    "euler": euler,
    "midpoint": midpoint,
    "heun": heun,
}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}


def ddim(
    denoise: Denoise,
    x: Tensor,
    times: list[float],
    alpha_bar: Callable[[float], float],
    eta: float = 0.0,
    noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Denoising diffusion implicit models (2020, arXiv 2010.02502), equation 12.

    times: from noise to data, the last one 0. alpha_bar(t): share of signal variance left at time t. eta: 0 is deterministic,
    1 has the variance of DDPM's posterior; above 0 each step but the last draws ``noise()``, of x's shape.
    """
    for t, following in zip(times, times[1:]):
        x0, epsilon = denoise(x, t)
        now, then = alpha_bar(t), alpha_bar(following)
        variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        x = then**0.5 * x0 + max(1 - then - variance, 0.0) ** 0.5 * epsilon
        if variance > 0 and noise is not None:
            x = x + variance**0.5 * noise()
    return x


def full_time(x: Tensor, t: float) -> Tensor:
    """The time ``t`` for every sample of x, ``(B,)``."""
    return torch.full((x.shape[0],), t, device=x.device)
