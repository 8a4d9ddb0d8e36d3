"""The training loop: one model, one budget, one clock."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError, TrialFailure
from bench.measure.clock import Marks, quiet_garbage, synchronise
from bench.measure.memory import present_mib
from bench.model import GenerativeModel
from bench.training.batches import Batches as Batches
from bench.training.batches import OnePass as OnePass  # bench.gate.block finds both here in any version
from bench.training.ema import WeightAverage
from bench.training.result import TrainingResult
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
