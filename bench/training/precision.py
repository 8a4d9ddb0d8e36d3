"""Which precision to train in: decided by a short measured trial on this machine, and recorded."""

from __future__ import annotations

import copy
import functools
from itertools import islice

import numpy as np
import torch

from bench.measure.clock import quiet_garbage, time_once
from bench.model import Batch, GenerativeModel
from bench.training.loop import Batches, mixed_precision

FASTER_BY = 1.15  # bfloat16 must win clearly: a choice within noise would make runs irreproducible
TRIAL_STEPS = 3

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in. float16 is never chosen by a trial: bfloat16 needs no scaled losses."""


def has_fast_bfloat16(device: torch.device) -> bool:
    """Has the hardware bfloat16 matrix instructions? Without them autocast emulates and is slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    avx512 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(amx() or avx512())


def choose(model: GenerativeModel, batches: Batches, precision: str) -> tuple[torch.dtype | None, str]:
    """(dtype for autocast or None for float32, why). ``precision``: auto, or one of ``DTYPES``."""
    device = model.device
    if precision in DTYPES:
        return DTYPES[precision], f"{precision} asked for"
    if not has_fast_bfloat16(device):
        return None, "float32: no bfloat16 matrix instructions here"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        single = _seconds_per_step(model, batches, None)
        half = _seconds_per_step(model, batches, torch.bfloat16)
    ratio = single / half
    chosen = torch.bfloat16 if ratio > FASTER_BY else None
    return (
        chosen,
        f"{'bfloat16' if chosen else 'float32'}: bfloat16 is {ratio:.2f}x as fast in a trial of {TRIAL_STEPS} steps",
    )


def _seconds_per_step(model: GenerativeModel, batches: Batches, dtype: torch.dtype | None) -> float:
    trial_model = copy.deepcopy(model).train()
    device = model.device
    laps = []

    def step(batch: Batch) -> None:
        with mixed_precision(device, dtype):
            trial_model.train_step(batch, 0.5)

    with quiet_garbage():
        for batch in islice(batches.once(), TRIAL_STEPS + 1):
            laps.append(time_once(functools.partial(step, batch), device))
    return float(np.median(laps[1:] or laps))
