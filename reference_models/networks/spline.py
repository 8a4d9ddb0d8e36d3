"""Monotonic rational-quadratic splines: bijections of the line that bend where they are told to.

"Neural Spline Flows", 2019, arXiv 1906.04032, section 3.1; the rational-quadratic piece is that of Gregory and Delbourgo (1982).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-3  # share of the interval that a bin has at least, and the least slope at a knot
UNIT_SLOPE = math.log(math.expm1(1 - SMALLEST))  # softplus of it, plus SMALLEST, is 1


def parameters_per_value(bins: int) -> int:
    """A width and a height for each bin and a slope for each inner knot."""
    return 3 * bins - 1


def rational_quadratic(x: Tensor, raw: Tensor, bound: float, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Maps [-bound, bound] onto itself by a spline through knots, and everything outside to itself.

    x: any shape. raw: x's shape and ``3 bins - 1`` unconstrained numbers behind; zeros give the identity. Returns the image of x
    and the log of the derivative there, both of x's shape. ``inverse=True``: the inverse map and the log of *its* derivative.
    """
    bins = (raw.shape[-1] + 1) // 3
    # a plane for each number: with so few numbers a value, softmax over the last dimension takes five times as long
    xs, ys, slopes = knots(raw.movedim(-1, 0).contiguous(), bins, bound)
    inside = (x >= -bound) & (x <= bound)
    value = x.clamp(-bound, bound)

    edges = ys if inverse else xs
    index = (value >= edges[1:-1]).sum(0, keepdim=True)

    def at(table: Tensor, offset: int = 0) -> Tensor:
        return table.gather(0, index + offset).squeeze(0)

    left, bottom = at(xs), at(ys)
    width, height = at(xs, 1) - left, at(ys, 1) - bottom
    slope, first, last = height / width, at(slopes), at(slopes, 1)
    curve = first + last - 2 * slope
    if inverse:  # the root in [0, 1] of a quadratic, in the form that does not cancel (equations 6 to 8)
        rise = value - bottom
        a = height * (slope - first) + rise * curve
        b = height * first - rise * curve
        c = -slope * rise
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        share = 2 * c / (-b - root)
        result = left + share * width
    else:
        share = (value - left) / width
        result = bottom + height * (slope * share.square() + first * share * (1 - share)) / (
            slope + curve * share * (1 - share)
        )
    # equation 5
    across = share * (1 - share)
    numerator = slope.square() * (last * share.square() + 2 * slope * across + first * (1 - share).square())
    log_slope = numerator.log() - 2 * (slope + curve * across).log()
    log_slope = torch.where(inside, log_slope, 0.0)
    return torch.where(inside, result, x), -log_slope if inverse else log_slope


def knots(raw: Tensor, bins: int, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Unconstrained numbers ``(3 bins - 1, ...)`` -> abscissas, ordinates and slopes of the knots, each ``(bins + 1, ...)``; slopes 1 at
    both ends."""
    inner = SMALLEST + F.softplus(raw[2 * bins :] + UNIT_SLOPE)
    xs, ys = _edges(raw[: 2 * bins].unflatten(0, (2, bins)), bound)
    return xs, ys, _between_ends(inner, 1.0, 1.0)


def _edges(raw: Tensor, bound: float) -> Tensor:
    """``(2, bins, ...)`` -> ``(2, bins + 1, ...)``: the edges of bins that fill [-bound, bound] in the proportions of a softmax, each at
    least SMALLEST."""
    bins = raw.shape[1]
    shares = SMALLEST + (1 - SMALLEST * bins) * raw.softmax(1)
    return _between_ends(2 * bound * shares[:, :-1].cumsum(1) - bound, -bound, bound, dim=1)


def _between_ends(inner: Tensor, first: float, last: float, dim: int = 0) -> Tensor:
    """``inner`` with one plane of ``first`` before it and one of ``last`` behind it."""
    end = torch.ones_like(inner.narrow(dim, 0, 1))
    return torch.cat([first * end, inner, last * end], dim)
