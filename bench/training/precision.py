"""Which precision to train in: decided by a short measured trial on this machine, and recorded."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from bench.measure.clock import quiet_garbage, time_once
from bench.model import Batch, GenerativeModel
from bench.store import write_atomically
from bench.training.batches import Batches
from bench.training.loop import mixed_precision
from bench.training.randomness import untouched_randomness

FASTER_BY = 1.15  # bfloat16 must win clearly: a choice within noise would make runs irreproducible
WARM_UP, FEWEST_STEPS, TRIAL_STEPS, TRIAL_SECONDS = 2, 3, 9, 4.0
"""Steps of the trial in each precision: the first are not counted; after some seconds the fewest will do."""

FAILED = "float32: the trial of bfloat16 failed"

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
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return (
            None,
            "float32: the model has no parameters to train; what it counts or sums stays as exact as it made it",
        )
    if not has_fast_bfloat16(device):
        return None, "float32: no bfloat16 matrix instructions here"
    try:
        copies = [copy.deepcopy(model) for _ in range(2)]  # a trial leaves nothing behind
    except Exception as error:  # whatever a model holds
        return None, f"float32: bfloat16 was not tried, since the model cannot be copied ({type(error).__name__})"
    try:
        with untouched_randomness(device):
            single, half = _seconds_per_step(copies, (None, torch.bfloat16), batches)
    except Exception as error:  # of a step in bfloat16, or for want of memory for the copies
        return None, f"{FAILED} ({type(error).__name__})"
    ratio = float(np.median(single) / np.median(half))
    chosen = torch.bfloat16 if ratio > FASTER_BY else None
    return (
        chosen,
        f"{'bfloat16' if chosen else 'float32'}: bfloat16 is {ratio:.2f}x as fast in a trial of {len(half)} steps",
    )


def choose_once(model: GenerativeModel, batches: Batches, precision: str, kept: Path) -> tuple[torch.dtype | None, str]:
    """As ``choose``, but ``auto`` is decided by the first that asks and kept in the file ``kept``, so that all seeds of a model are
    trained alike where bfloat16 wins by a hair."""
    if precision in DTYPES:
        return choose(model, batches, precision)
    try:
        why = kept.read_text(encoding="utf-8")
        return dtype_of(why), why
    except (OSError, ValueError, KeyError):  # not decided yet, or the file is damaged
        dtype, why = choose(model, batches, precision)
        if not why.startswith(FAILED):  # the next one may have the memory that this one lacked
            write_atomically(kept, why.encode())
        return dtype, why


def dtype_of(why: str) -> torch.dtype | None:
    """What autocast computes in, from the reason that a record gives ("bfloat16: ...")."""
    return DTYPES[why.replace(":", " ").split(" ")[0]]


def _seconds_per_step(
    models: Sequence[GenerativeModel], dtypes: Sequence[torch.dtype | None], batches: Batches
) -> list[list[float]]:
    """Of each model in its precision, step by step in turn on the same batches, so that other work on the machine slows all alike;
    the first steps, in which kernels are chosen and flows initialised, are left out. The models are trained by it."""
    laps: list[list[float]] = [[] for _ in models]

    def step(model: GenerativeModel, dtype: torch.dtype | None, batch: Batch) -> None:
        with mixed_precision(model.device, dtype):
            model.train_step(batch, 0.5)

    for model in models:
        model.train()
    began = time.perf_counter()
    with quiet_garbage():
        for batch in chain.from_iterable(batches.once() for _ in range(WARM_UP + TRIAL_STEPS)):
            for model, dtype, found in zip(models, dtypes, laps, strict=True):
                found.append(time_once(functools.partial(step, model, dtype, batch), model.device))
            done = len(laps[0]) - WARM_UP
            if done == TRIAL_STEPS or (done >= FEWEST_STEPS and time.perf_counter() - began > TRIAL_SECONDS):
                break
    return [found[WARM_UP:] for found in laps]
