"""What a trial cost, as measurements: from what was timed, counted and read off during it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bench.measure.blocks import CLOCKS_AGREE, CLOCKS_DIFFER, NEVER_SETTLED, Timing, joined, rate, settled_at
from bench.measure.flops import FlopCount, count, count_training
from bench.measure.latency import percentiles
from bench.measure.memory import mebibytes
from bench.measure.peaks import arithmetic, peak_flops, utilisation
from bench.model import GenerativeModel
from bench.prices import Price
from bench.record import Measurement
from bench.sampling import draw_batch
from bench.stats.intervals import t_interval
from bench.training.batches import Batches
from bench.training.loop import mixed_precision
from bench.training.randomness import untouched_randomness
from bench.training.result import TrainingResult, final_losses

ALL_WARM_UP = "includes the warm-up: training ended within its first steps"

SLOWEST_COUNTED = 2.0
"""Seconds of one sample above which its FLOPs are not counted: counting is several times slower than sampling."""


def exact(
    name: str, value: float, *, unit: str = "1", direction: Any = "lower", note: str | None = None
) -> Measurement:
    """A count or a single reading: its interval is the point itself."""
    value = float(value)
    return Measurement(
        value, name=name, low=value, high=value, n=1, unit=unit, direction=direction, interval="exact", note=note
    )


def training_costs(
    result: TrainingResult, batch_size: int, paused: bool = False, warning: str | None = None
) -> list[Measurement]:
    """Speed, latencies, warm-up and growth of memory; final losses.

    paused: the loop was interrupted for checkpoints, whose scoring also took memory. warning: of what the machine did meanwhile.
    """
    laps, data = result.laps()
    costs = [
        *_training_speed(result, batch_size, joined(warning, training_note(result))),
        exact("training_seconds", result.seconds, unit="s"),
        exact("warmup_seconds", result.settled_seconds(), unit="s"),
        exact("first_step_seconds", result.first_step_seconds, unit="s"),
        exact("training_steps", result.steps, unit="steps", direction="none"),
        exact("training_images", result.images, unit="images", direction="none"),
    ]  # fmt: skip
    if laps:
        costs += percentiles("training_step_latency", laps, note=warning)
        costs.append(_share("data_loading_share", data, laps))
    if result.growth_mib is not None and not paused:
        costs.append(mebibytes("memory_growth_training", result.growth_mib))
    return costs + _losses(result)


def host_clock_ratio(result: TrainingResult) -> float | None:
    """Seconds of all steps by the host's clock for each by the device's; 1 on a CPU, where both are one. None without steps."""
    device = sum(result.lap_seconds)
    return sum(result.block_seconds) / device if device > 0 else None


def training_note(result: TrainingResult) -> str | None:
    """Why the speed of training is to be read with care; None where all is well."""
    ratio = host_clock_ratio(result)
    if ratio is not None and abs(ratio - 1) > CLOCKS_AGREE:
        return CLOCKS_DIFFER
    blocks = [seconds / steps for seconds, steps in zip(result.block_seconds, result.block_steps)]
    return NEVER_SETTLED if blocks and settled_at(blocks) is None else None


def _training_speed(result: TrainingResult, batch_size: int, note: str | None) -> list[Measurement]:
    """Images and steps a second; of a training that ended before it was warm, over all of it and without an interval."""
    names = (("training_throughput", batch_size, "images/s"), ("training_step_rate", 1, "steps/s"))
    if blocks := result.step_seconds():
        return [rate(name, blocks, items, unit=unit, note=note) for name, items, unit in names]
    rates = ((name, items * result.steps / max(result.seconds, 1e-12), unit) for name, items, unit in names)
    return [
        Measurement(value, name=name, n=1, unit=unit, direction="higher", note=joined(note, ALL_WARM_UP))
        for name, value, unit in rates
    ]


def sampling_costs(many: Timing, batch: int, single: Timing, warning: str | None) -> list[Measurement]:
    """many: of batches of ``batch`` samples. single: of one sample at a time; tails that its laps are too few for are left out."""
    latencies = percentiles("sampling_latency", single.laps, note=joined(warning, single.note))
    known = [latency for latency in latencies if latency.low is not None] or latencies[:1]
    return [rate("sampling_throughput", many.blocks, batch, note=joined(warning, many.note)), *known]


def training_flops(model: GenerativeModel, batches: Batches, autocast: torch.dtype | None) -> tuple[FlopCount, float]:
    """(count of a training step or of several that differ, FLOPs an image), on copies of the model: the trial's own goes on as it was."""
    batch = next(batches.once())

    def step(copied: GenerativeModel, progress: float) -> None:
        with mixed_precision(copied.device, autocast):
            copied.train_step(batch, progress)

    with untouched_randomness(model.device):
        found, steps = count_training(model, step)
    return found, found.flops / (steps * len(batch))


def sampling_flops(model: GenerativeModel, seed: int) -> tuple[FlopCount, float]:
    """(count of one sample, its FLOPs)."""
    with torch.inference_mode():
        found = count(lambda: draw_batch(model, 1, seed))
    return found, found.flops


def flop_costs(phase: str, found: FlopCount, per_image: float) -> list[Measurement]:
    """FLOPs an image and the share of the work that the count covers."""
    coverage = exact(f"{phase}_flops_coverage", found.coverage, direction="higher", note=found.note)
    return [exact(f"{phase}_flops_per_image", per_image, unit="FLOP/image", note=found.note), coverage]


def utilisation_costs(
    costs: Sequence[Measurement], device_name: str | None, autocast: torch.dtype | None
) -> list[Measurement]:
    """MFU of training (in the precision trained in) and sampling (float32), where the device's peak is known."""
    by_name = {cost.name: cost for cost in costs}
    found = []
    for phase, dtype in (("training", arithmetic(autocast)), ("sampling", arithmetic(None))):
        speed, flops = by_name.get(f"{phase}_throughput"), by_name.get(f"{phase}_flops_per_image")
        peak = peak_flops(device_name, dtype) if device_name else None
        if device_name and dtype == "tf32" and peak is None:  # before 2020 there were no such units: float32 is float32
            peak = peak_flops(device_name, "float32")
        if peak and speed is not None and flops is not None:
            found.append(utilisation(f"{phase}_mfu", speed, float(flops), peak))
    return found


def money_costs(
    costs: Sequence[Measurement], price: Price | None, seconds: float, day: datetime.date | None = None
) -> list[Measurement]:
    """Cost of the run (training, prior and sample set: ``seconds``) and of 1000 images, in the currency of the price table.

    day: of the run; a price that was old then is said to be.
    """
    if price is None:
        return []
    note = price.describe(day)
    found = [exact("cost_per_run", price.per_hour * seconds / 3600, unit=price.currency, note=note)]
    speed = next((cost for cost in costs if cost.name == "sampling_throughput"), None)
    if speed is not None and speed > 0:
        thousand = price.per_hour / 3600 * 1000
        ends = {} if not speed.low or not speed.high else {"low": thousand / speed.high, "high": thousand / speed.low}
        found.append(
            Measurement(
                thousand / speed,
                name="cost_per_1000_images",
                n=speed.n,
                unit=price.currency,
                direction="lower",
                interval=speed.interval if ends else None,
                note=note,
                **ends,
            )
        )
    return found


def _share(name: str, part: Sequence[float], whole: Sequence[float]) -> Measurement:
    """Mean share of ``part`` in ``whole`` over twenty stretches of the steps."""
    stretches = min(20, len(whole))
    shares = [
        a.sum() / max(b.sum(), 1e-12) for a, b in zip(np.array_split(part, stretches), np.array_split(whole, stretches))
    ]
    mean = t_interval(shares)
    low, high = mean.bounds or (None, None)
    return Measurement(
        mean.value,
        name=name,
        low=low,
        high=high,
        n=len(whole),
        direction="lower",
        interval=mean.method if mean.bounds else None,
        note=None if mean.bounds else "too few laps for an interval",
    )


def _losses(result: TrainingResult) -> list[Measurement]:
    found = []
    for name, values in final_losses(result).items():
        mean = t_interval(values)
        note = None if mean.bounds else "too few blocks for an interval"
        low, high = mean.bounds or (None, None)
        found.append(
            Measurement(
                mean.value, name=f"final_loss_{name}", low=low, high=high, n=mean.n, interval=mean.method, note=note
            )
        )
    return found
