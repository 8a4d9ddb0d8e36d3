"""Exponential moving average of weights, with a warm-up so that short runs are not their own initialisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages every floating parameter and buffer of a model: a <- d a + (1 - d) w.

    The decay warms up as d_k = min(decay, (1 + k) / (10 + k)) (k: updates so far), the schedule of TensorFlow's
    ``ExponentialMovingAverage(num_updates)``; with a fixed 0.9999 a run of 2000 steps would return its initial weights.
    Buffers are averaged too, so that batch-norm statistics fit the averaged weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self._live = _floating_state(model)
        self._average = [tensor.detach().clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average."""
        if not self._live:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def lag(self) -> float:
        """How far the average is behind: |average - present weights| / |present weights|, 0 where there are none."""
        if not self._live:
            return 0.0
        behind = torch.stack(torch._foreach_norm(torch._foreach_sub(self._average, self._live))).norm()
        return float(behind / torch.stack(torch._foreach_norm(self._live)).norm().clamp_min(1e-30))

    @torch.no_grad()
    def apply(self) -> None:
        """Overwrite the model's weights with the average."""
        if self._live:
            torch._foreach_copy_(self._live, self._average)

    @torch.no_grad()
    def apply_to(self, copy: nn.Module) -> None:
        """Overwrite the weights of a copy of the model with the average; the model trains on."""
        if self._average:
            torch._foreach_copy_(_floating_state(copy), self._average)

    def state(self) -> dict[str, Any]:
        """What ``load`` needs to go on averaging."""
        return {"updates": self.updates, "average": self._average}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        torch._foreach_copy_(self._average, state["average"])


def _floating_state(model: nn.Module) -> list[Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
