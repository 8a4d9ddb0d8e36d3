"""How training proceeds: the learning rate over the budget, and the times at which a denoiser is trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 0.03
TIMES = ("logit-normal", "uniform")


def set_learning_rate(optimizer: Optimizer, peak: float, progress: float) -> None:
    """Linear warm-up over the first 3 % of the budget, then linear decay to zero at its end."""
    warm = min(1.0, (progress + 1e-3) / WARM_UP)
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (1.0 - progress)


def draw_times(n: int, kind: str, device: torch.device, shift: float = 0.0) -> Tensor:
    """``(n,)`` times in (0, 1), stratified over the batch: less noise in the loss than independent draws.

    kind: "uniform", or "logit-normal" (the sigmoid of N(shift, 1)), which trains most where neither noise nor data dominates
    and structure is decided ("Scaling Rectified Flow Transformers", 2024, arXiv 2403.03206).
    """
    if kind == "uniform":
        return stratified(n, device)
    return (normal_quantiles(n, device) + shift).sigmoid()


def stratified(n: int, device: torch.device) -> Tensor:
    """``(n,)`` uniform numbers in (0, 1), one in each of n equal parts, rising."""
    return (torch.arange(n, device=device) + torch.rand(n, device=device)) / n


def normal_quantiles(n: int, device: torch.device) -> Tensor:
    """``(n,)`` standard normal numbers, stratified as ``stratified``."""
    return torch.special.ndtri(stratified(n, device).clamp(1e-4, 1 - 1e-4))
