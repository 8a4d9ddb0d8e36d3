"""Errors of predicted pixels, as samples show them: clipped to [-1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reference_models.likelihood import HALF_BIN


def censored(prediction: Tensor, pixels: Tensor) -> Tensor:
    """``prediction``, but the pixel itself where it lies beyond the end of [-1, 1] at which the pixel is; both ``(B, C, H, W)``.

    Samples are clipped, so that there is no error in it. If it were counted, predictions of black would be held *about* black, and
    the half that is above it would stay as grain, which hardly anybody sees and every feature network does. What is best for a pixel
    that is not certain to be at the end remains its mean. The idea is that of censored regression ("Estimation of Relationships for
    Limited Dependent Variables", Tobin, Econometrica 26, 1958).
    """
    beyond = (pixels < -1 + HALF_BIN) & (prediction < -1) | (pixels > 1 - HALF_BIN) & (prediction > 1)
    return torch.where(beyond, pixels, prediction)


def squared_error(prediction: Tensor, x: Tensor, *, pixels: bool) -> Tensor:
    """Mean squared error in float32, a scalar; of clipped predictions where ``x`` are pixels."""
    prediction = prediction.float()
    return F.mse_loss(censored(prediction, x) if pixels else prediction, x)
