"""Log likelihoods of pixels and coordinates, and the divergence that goes with them; all in nats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_BIN = 1 / 255  # 8-bit levels lie 2 / 255 apart in [-1, 1]


def discretised(x: Tensor, mean: Tensor, log_scale: Tensor, family: str) -> Tensor:
    """log P(x) of 8-bit levels: the mass that a continuous density puts on each level's bin.

    x: levels ``k / 127.5 - 1``, k = 0 ... 255; mean, log_scale: broadcast against x. family: "logistic" or "gaussian". The
    outer bins reach to infinity, so that the 256 probabilities sum to one ("PixelCNN++", 2017, arXiv 1701.05517, 2.1).
    """
    inverse = (-log_scale).exp()
    lower, upper = (x - HALF_BIN - mean) * inverse, (x + HALF_BIN - mean) * inverse
    log_cdf = F.logsigmoid if family == "logistic" else torch.special.log_ndtr
    # log(F(upper) - F(lower)), taken on the side of the mean where both are below 1/2 or straddle it: no cancellation
    left = torch.where(x > mean, -upper, lower)
    right = torch.where(x > mean, -lower, upper)
    high, low = log_cdf(right), log_cdf(left)
    inside = high + torch.log1p(-(low - high).exp().clamp(max=1 - 1e-7))
    first, last = x < -1 + HALF_BIN, x > 1 - HALF_BIN
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
