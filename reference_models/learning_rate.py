"""Learning-rate schedules over the share of the budget that is used, whatever the budget is counted in."""

from __future__ import annotations

from torch.optim import Optimizer

WARM_UP = 0.03


def set_learning_rate(optimizer: Optimizer, peak: float, progress: float) -> None:
    """Linear warm-up over the first 3 % of the budget, then linear decay to zero at its end."""
    warm = min(1.0, (progress + 1e-3) / WARM_UP)
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (1.0 - progress)
