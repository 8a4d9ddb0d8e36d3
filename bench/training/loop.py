"""The training loop: one model, one budget, one clock."""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.measure.blocks import AGREEING, settled_at
from bench.measure.clock import Marks, quiet_garbage, synchronise
from bench.measure.memory import present_mib
from bench.model import Batch, GenerativeModel
from bench.sampling import to_model_range
from bench.training.ema import WeightAverage
from bench.training.resume import Checkpoints

WARMUP_STEPS = 3
BLOCK_SECONDS = 0.25
COLLECT_SECONDS = 5.0
"""How often garbage is collected, off the clock: what reference cycles hold would else stay for the whole of a long training."""


def mixed_precision(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to ``dtype`` for one training step; None is float32.

    Without autocast's cache of cast weights: a step may hold several optimizer steps (critics, penalties), after each of which
    the cache would hold old weights, and a cast made under ``no_grad`` would carry no gradient.
    """
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False)


@dataclasses.dataclass
class TrainingResult:
    """What training spent and how it went.

    block_seconds, block_steps: wall seconds and steps of each block after the first steps; a block ends with a synchronisation.
    lap_seconds, data_seconds: of each of these steps, by the device's clock, and how much of it went into fetching the batch.
    first_step_seconds: of the very first step, in which kernels are compiled and chosen.
    growth_mib: by how much the memory held grew from the end of the first steps to the end of training.
    losses: name -> mean of each block, in order.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    flops_per_step: float | None = None
    block_seconds: list[float] = dataclasses.field(default_factory=list)
    block_steps: list[int] = dataclasses.field(default_factory=list)
    lap_seconds: list[float] = dataclasses.field(default_factory=list)
    data_seconds: list[float] = dataclasses.field(default_factory=list)
    first_step_seconds: float = 0.0
    growth_mib: float | None = None
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def step_seconds(self) -> list[float]:
        """Mean seconds of a step in each block after the warm-up."""
        return self._all_step_seconds()[self._unsettled_blocks() :]

    def laps(self) -> tuple[list[float], list[float]]:
        """(seconds of each step, seconds of its batch) after the warm-up."""
        skipped = sum(self.block_steps[: self._unsettled_blocks()])
        return self.lap_seconds[skipped:], self.data_seconds[skipped:]

    def settled_seconds(self) -> float:
        """Seconds until the speed stood still: the first steps and the blocks before three in a row agree."""
        return self.warmup_seconds + sum(self.block_seconds[: self._unsettled_blocks()])

    def _all_step_seconds(self) -> list[float]:
        return [seconds / steps for seconds, steps in zip(self.block_seconds, self.block_steps)]

    def _unsettled_blocks(self) -> int:
        """Blocks before the first three that agree; a quarter of all at most, and where no three do."""
        settled, quarter = settled_at(self._all_step_seconds()), len(self.block_seconds) // 4
        return quarter if settled is None else min(settled - AGREEING, quarter)


class Batches:
    """Endless shuffled batches from arrays in memory, on the device, in model range; every epoch has its own order."""

    def __init__(self, data: Data, batch_size: int, seed: int, device: torch.device) -> None:
        self.x = torch.as_tensor(data.train, device=device)
        self.labels = None if data.train_labels is None else torch.as_tensor(data.train_labels, device=device)
        self.captions = data.train_captions
        self.space = data.space
        self.batch_size = min(batch_size, len(self.x))
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch = self._generator.get_state()  # as it was before the present epoch was shuffled
        self._place = 0  # examples of the present epoch that were handed out

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self._epoch = self._generator.get_state()
            order = torch.randperm(len(self.x), generator=self._generator)
            on_device = order.to(self.x.device)
            while self._place <= len(order) - self.batch_size:
                chosen = slice(self._place, self._place + self.batch_size)
                self._place += self.batch_size
                yield self._take(on_device[chosen], order[chosen])
            self._place = 0

    def state(self) -> dict[str, Any]:
        """The place in the stream of batches; ``load`` puts a stream that is iterated anew there."""
        return {"epoch": self._epoch, "place": self._place}

    def load(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["epoch"])
        self._place = state["place"]

    def once(self) -> Iterator[Batch]:
        """Every training example once, in order: what a prior is fitted on."""
        for start in range(0, len(self.x), self.batch_size):
            yield self._take(slice(start, start + self.batch_size))

    def _take(self, which: Any, on_host: Tensor | None = None) -> Batch:
        """on_host: the same indices, where ``which`` are on a device that should not be waited for."""
        labels = None if self.labels is None else self.labels[which]
        captions = self._captions(which if on_host is None else on_host)
        return Batch(to_model_range(self.x[which], self.space), labels, captions)

    def _captions(self, which: Any) -> tuple[str, ...] | None:
        if self.captions is None:
            return None
        return self.captions[which] if isinstance(which, slice) else tuple(self.captions[i] for i in which.tolist())


class OnePass:
    """A loader that can be iterated more than once, each time over the whole training set."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.once()


def _changes(model: GenerativeModel) -> int:
    """Grows with every change of a parameter in place."""
    return sum(parameter._version for parameter in model.parameters())


def train(
    model: GenerativeModel,
    batches: Batches,
    budget_unit: str,
    budget_amount: float,
    *,
    average: WeightAverage | None = None,
    autocast: torch.dtype | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkpoints: Sequence[float] = (),
    on_checkpoint: Callable[[TrainingResult, float, float], None] | None = None,
    watch: Callable[[TrainingResult, float], float] | None = None,
    resume: Checkpoints | None = None,
    flops_per_step: float | None = None,
) -> TrainingResult:
    """Train until the budget (seconds | images | steps | flops) is spent.

    checkpoints: shares of the budget, ascending, at which ``on_checkpoint(result so far, share, seconds of training)`` is called off
    the clock.
    watch: called with the result so far and the share of the budget used at the end of every block; it returns the seconds that
    it took, which are off the clock.
    flops_per_step: of which a budget in FLOPs is made; None: those of the first step.
    resume: where the state is kept off the clock from time to time, and taken from if an earlier run left one.

    The wall-clock budget includes warm-up and weight averaging. Raises TrialFailure('diverged') at the first block whose
    loss is not finite.
    """
    device = model.device
    result = TrainingResult()
    stream = iter(batches)
    pending: list[dict[str, float | Tensor]] = []
    model.train()
    began = block_began = held = 0.0
    block_start = 0
    marks = Marks(device)

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

    unchanged = _changes(model)

    def step() -> None:
        batch = next(stream)
        marks.mark()
        progress = min(spent() / budget_amount, 1.0)
        with mixed_precision(device, autocast):
            losses = model.train_step(batch, progress)
        if not isinstance(losses, dict):
            name = type(model).__name__
            raise BenchError(f"{name}.train_step must return its losses, a dict of name to number, not {losses!r}")
        if autocast == torch.float16 and model.float16_scaler is None and _changes(model) != unchanged:
            raise BenchError(
                f"{type(model).__name__} cannot train in float16: its train_step calls backward itself, so that its losses are not "
                "scaled; let it call self.descend(loss, optimizer), or set precision to bfloat16 or float32"
            )
        pending.append(losses)
        if average is not None:
            average.update()
        marks.mark()
        result.steps += 1
        result.images += len(batch)

    with quiet_garbage():
        synchronise(device)
        began = block_began = time.perf_counter()
        if resume is not None:
            if autocast == torch.float16 and resume.saved is not None:
                model.float16_scaler = torch.amp.GradScaler(device.type)  # for the scale that was saved
            began = time.perf_counter() - resume.restore(model, average, batches, result)
            block_began, block_start, held = time.perf_counter(), result.steps, present_mib(device)
        result.flops_per_step = result.flops_per_step or flops_per_step
        collected = time.perf_counter()
        due = [share for share in checkpoints if spent() / budget_amount < share < 1]
        marks.mark()
        while spent() < budget_amount:
            if budget_unit == "flops" and result.flops_per_step is None:  # of a model that could not be counted before
                result.flops_per_step = _count_flops(step)
            else:
                step()
            warming = result.steps == WARMUP_STEPS
            share = spent() / budget_amount
            checkpoint = bool(due) and due[0] <= share < 1
            keep = resume is not None and share < 1 and resume.due()
            if not (warming or checkpoint or keep or share >= 1) and time.perf_counter() - block_began < BLOCK_SECONDS:
                continue
            synchronise(device)
            now = time.perf_counter()
            laps = marks.seconds()
            if result.steps <= WARMUP_STEPS:
                result.warmup_seconds = now - began
                result.first_step_seconds = result.first_step_seconds or sum(laps[:2])
                held = present_mib(device)
            else:
                result.block_seconds.append(now - block_began)
                result.block_steps.append(result.steps - block_start)
                result.lap_seconds += [data + rest for data, rest in zip(laps[::2], laps[1::2])]
                result.data_seconds += laps[::2]
            _collect_losses(pending, result)
            if on_progress:
                on_progress(_progress(result, spent() / budget_amount, now - began))
            if checkpoint and on_checkpoint:
                reached = max(passed for passed in due if passed <= share)
                due = [later for later in due if later > share]
                paused = time.perf_counter()
                on_checkpoint(result, reached, paused - began)
                synchronise(device)
                began += time.perf_counter() - paused
            if watch:
                began += watch(result, spent() / budget_amount)
            if time.perf_counter() - collected > COLLECT_SECONDS:
                paused = time.perf_counter()
                gc.collect()
                collected = time.perf_counter()
                began += collected - paused
            if keep and resume is not None:
                paused = time.perf_counter()
                resume.save(model, average, batches, result, paused - began)
                began += time.perf_counter() - paused
            block_began, block_start = time.perf_counter(), result.steps
            marks.clear()
            marks.mark()
    synchronise(device)
    result.seconds = time.perf_counter() - began
    if result.steps > WARMUP_STEPS:
        result.growth_mib = present_mib(device) - held
    return result


def _collect_losses(pending: list[dict[str, float | Tensor]], result: TrainingResult) -> None:
    """Mean of each loss over the steps of the block that report it; one transfer a block."""
    for name in dict.fromkeys(name for losses in pending for name in losses):
        values = [torch.as_tensor(each[name], dtype=torch.float32).detach() for each in pending if name in each]
        where = values[-1].device  # a loss that a model only remembers may still be on the host
        mean = float(torch.stack([value.to(where) for value in values]).mean())
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
    from bench.measure.flops import count

    flops = count(step).flops
    if flops <= 0:
        raise TrialFailure(
            "failed", "no FLOPs were counted in a training step; use a budget in steps, images or seconds"
        )
    return flops


def final_losses(result: TrainingResult, share: float = 0.1) -> dict[str, np.ndarray]:
    """The block means of the last ``share`` of training, by loss name."""
    return {name: np.asarray(values[-max(1, round(len(values) * share)) :]) for name, values in result.losses.items()}
