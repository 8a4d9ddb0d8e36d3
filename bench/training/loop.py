"""The training loop: one model, one budget, one clock."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.base import Data
from bench.errors import TrialFailure
from bench.measure.clock import quiet_garbage, synchronise
from bench.model import Batch, GenerativeModel
from bench.sampling import to_model_range
from bench.training.ema import WeightAverage

WARMUP_STEPS = 3
BLOCK_SECONDS = 0.25


@dataclasses.dataclass
class TrainingResult:
    """What training spent and how it went.

    block_seconds, block_steps: wall seconds and steps of each block after the warm-up; a block ends with a synchronisation.
    losses: name -> mean of each block, in order.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    flops_per_step: float | None = None
    block_seconds: list[float] = dataclasses.field(default_factory=list)
    block_steps: list[int] = dataclasses.field(default_factory=list)
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def step_seconds(self) -> list[float]:
        """Mean seconds of a step in each block."""
        return [seconds / steps for seconds, steps in zip(self.block_seconds, self.block_steps)]


class Batches:
    """Endless shuffled batches from arrays in memory, on the device, in model range; every epoch has its own order."""

    def __init__(self, data: Data, batch_size: int, seed: int, device: torch.device) -> None:
        self.x = torch.as_tensor(data.train, device=device)
        self.labels = None if data.train_labels is None else torch.as_tensor(data.train_labels, device=device)
        self.space = data.space
        self.batch_size = min(batch_size, len(self.x))
        self._generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            order = torch.randperm(len(self.x), generator=self._generator).to(self.x.device)
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                yield self._take(order[start : start + self.batch_size])

    def once(self) -> Iterator[Batch]:
        """Every training example once, in order: what a prior is fitted on."""
        for start in range(0, len(self.x), self.batch_size):
            yield self._take(slice(start, start + self.batch_size))

    def _take(self, which: Any) -> Batch:
        labels = None if self.labels is None else self.labels[which]
        return Batch(to_model_range(self.x[which], self.space), labels)


class OnePass:
    """A loader that can be iterated more than once, each time over the whole training set."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.once()


def train(
    model: GenerativeModel,
    batches: Batches,
    budget_unit: str,
    budget_amount: float,
    *,
    average: WeightAverage | None = None,
    autocast: torch.dtype | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> TrainingResult:
    """Train until the budget (seconds | images | steps | flops) is spent.

    The wall-clock budget includes warm-up and weight averaging. Raises TrialFailure('diverged') at the first block whose
    loss is not finite.
    """
    device = model.device
    result = TrainingResult()
    stream = iter(batches)
    pending: list[dict[str, float | Tensor]] = []
    model.train()
    began = block_began = 0.0
    block_start = 0

    def spent() -> float:
        match budget_unit:
            case "seconds":
                return time.perf_counter() - began
            case "images":
                return result.images
            case "steps":
                return result.steps
            case _:
                return result.steps * (result.flops_per_step or 0.0)

    def step() -> None:
        batch = next(stream)
        progress = min(spent() / budget_amount, 1.0)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            pending.append(model.train_step(batch, progress))
        if average is not None:
            average.update()
        result.steps += 1
        result.images += len(batch)

    with quiet_garbage():
        synchronise(device)
        began = block_began = time.perf_counter()
        while spent() < budget_amount:
            if budget_unit == "flops" and result.flops_per_step is None:
                result.flops_per_step = _count_flops(step)
            else:
                step()
            warming = result.steps == WARMUP_STEPS
            if not warming and time.perf_counter() - block_began < BLOCK_SECONDS and spent() < budget_amount:
                continue
            synchronise(device)
            now = time.perf_counter()
            if result.steps <= WARMUP_STEPS:
                result.warmup_seconds = now - began
            else:
                result.block_seconds.append(now - block_began)
                result.block_steps.append(result.steps - block_start)
            _collect_losses(pending, result)
            if on_progress:
                on_progress(_progress(result, spent() / budget_amount, now - began))
            block_began, block_start = time.perf_counter(), result.steps
    synchronise(device)
    result.seconds = time.perf_counter() - began
    return result


def _collect_losses(pending: list[dict[str, float | Tensor]], result: TrainingResult) -> None:
    """Mean of each loss over the block; one transfer a block."""
    for name in pending[0] if pending else ():
        values = torch.stack([torch.as_tensor(losses[name], dtype=torch.float32).detach() for losses in pending])
        mean = float(values.mean())
        if not math.isfinite(mean):
            raise TrialFailure("diverged", f"loss '{name}' is {mean} at step {result.steps}")
        result.losses.setdefault(name, []).append(mean)
    pending.clear()


def _progress(result: TrainingResult, share: float, seconds: float) -> dict[str, Any]:
    speed = result.images / seconds if seconds > 0 else 0.0
    losses = {name: values[-1] for name, values in result.losses.items()}
    return {"step": result.steps, "images_per_second": speed, "losses": losses, "share": min(share, 1.0)}


def _count_flops(step: Callable[[], None]) -> float:
    """FLOPs of one training step, counted on the step itself (2 per multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    flops = float(counter.get_total_flops())
    if flops <= 0:
        raise TrialFailure(
            "failed", "no FLOPs were counted in a training step; use a budget in steps, images or seconds"
        )
    return flops


def final_losses(result: TrainingResult, share: float = 0.1) -> dict[str, np.ndarray]:
    """The block means of the last ``share`` of training, by loss name."""
    return {name: np.asarray(values[-max(1, round(len(values) * share)) :]) for name, values in result.losses.items()}
