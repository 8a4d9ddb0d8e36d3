"""The learning rate over the budget and the distribution of training times."""

from __future__ import annotations

import pytest
import torch

from reference_models.schedules import draw_times, set_learning_rate


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_training_times_have_their_distribution(times: str) -> None:
    torch.manual_seed(0)
    t = draw_times(10_000, times, torch.device("cpu"))
    assert t.min() > 0
    assert t.max() < 1
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = quantiles if times == "uniform" else torch.distributions.Normal(0, 1).icdf(quantiles).sigmoid()
    torch.testing.assert_close(t.quantile(quantiles), expected, atol=1e-3, rtol=0)


def test_learning_rate_rises_then_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0)

    def rate(progress: float) -> float:
        set_learning_rate(optimizer, 0.1, progress)
        return optimizer.param_groups[0]["lr"]

    assert 0 < rate(0.0) < 0.01
    assert rate(0.03) == pytest.approx(0.097)
    assert rate(0.5) == pytest.approx(0.05)
    assert rate(1.0) == 0
