"""Log likelihoods of pixels and coordinates, and the divergence that goes with them; all in nats."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

HALF_BIN = 1 / 255  # 8-bit levels lie 2 / 255 apart in [-1, 1]


def discretised(x: Tensor, mean: Tensor, log_scale: Tensor, family: str) -> Tensor:
    """log P(x) of 8-bit levels: the mass that a continuous density puts on each level's bin.

    x: levels ``k / 127.5 - 1``, k = 0 ... 255; mean, log_scale: broadcast against x. family: "logistic" or "gaussian". The
    outer bins reach to infinity, so that the 256 probabilities sum to one ("PixelCNN++", 2017, arXiv 1701.05517, 2.1).
    """
    if family == "logistic" and mean.shape == x.shape and log_scale.ndim == 0:
        return _Logistic.apply(x, mean, log_scale)
    inverse = (-log_scale).exp()
    lower, upper = (x - HALF_BIN - mean) * inverse, (x + HALF_BIN - mean) * inverse
    first, last = x < -1 + HALF_BIN, x > 1 - HALF_BIN
    if family == "logistic":  # F(u) - F(l) = F(u) F(-l) (1 - exp(l - u)): three factors, none of which can cancel
        within = (-torch.expm1(-2 * HALF_BIN * inverse)).log()
        below, above = F.softplus(-upper), F.softplus(lower)
        return within * ~(first | last) - below * ~last - above * ~first
    return _normal(lower, upper, first, last)


class _Logistic(torch.autograd.Function):
    """``discretised`` of the logistic family with one scale for all, and its gradient written out: less than half the time on a CPU, where
    softplus and its logarithm of 1 + e are slow. With c = (x - mean) / scale and h half a bin over the scale,

    log P = log s(c + h) + log s(h - c) + log(1 - e^-2h),   s the sigmoid; in the outer bins the side that reaches to infinity is 1.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        inverse = (-log_scale).exp()
        half = HALF_BIN * inverse
        centred = (x - mean).mul_(inverse)
        first, last = x < -1 + HALF_BIN, x > 1 - HALF_BIN
        ctx.save_for_backward(centred, first, last, half, inverse)
        below, above = _log_sigmoid(centred + half), _log_sigmoid(half - centred)
        within = (-torch.expm1(-2 * half)).log() * ~(first | last)
        return within.add_(below.masked_fill_(last, 0)).add_(above.masked_fill_(first, 0))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        centred, first, last, half, inverse = ctx.saved_tensors
        below = torch.sigmoid(-half - centred).masked_fill_(last, 0)  # the slopes of both logarithms
        above = torch.sigmoid(centred - half).masked_fill_(first, 0)
        slope = below - above
        of_mean = gradient * slope * -inverse
        widening = below.add_(above).add_((2 / torch.expm1(2 * half)) * ~(first | last)).mul_(half)
        return None, of_mean, -(gradient * slope.mul_(centred).add_(widening)).sum()


def _log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + e^-x)), exact to the rounding of 1."""
    return x.clamp(max=0).sub_(x.abs().neg_().exp_().add_(1).log_())


def _normal(lower: Tensor, upper: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """log(F(upper) - F(lower)) of the normal distribution, taken on the side of the mean where both are below 1/2 or straddle
    it, so that nothing cancels."""
    log_cdf, right_side = torch.special.log_ndtr, lower + upper > 0
    low, high = log_cdf(torch.where(right_side, -upper, lower)), log_cdf(torch.where(right_side, -lower, upper))
    inside = high + torch.log1p(-(low - high).exp().clamp(max=1 - 1e-7))
    return torch.where(first, log_cdf(upper), torch.where(last, log_cdf(-lower), inside))


def continuous(x: Tensor, mean: Tensor, log_scale: Tensor, family: str) -> Tensor:
    """log p(x) of real numbers under the same families."""
    z = (x - mean) * (-log_scale).exp()
    if family == "logistic":
        return -z.abs() - 2 * F.softplus(-z.abs()) - log_scale
    return -0.5 * z.square() - log_scale - 0.5 * math.log(2 * math.pi)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of diagonal Gaussians, ``(B, d), (B, d) -> (B,)``."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
