"""Model FLOPs utilisation: counted FLOPs a second as a share of what the device could do ("PaLM", 2022, arXiv 2204.02311)."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import torch

from bench.record import Measurement

TABLE = Path(__file__).with_name("peaks.toml")


@functools.cache
def table() -> tuple[dict[str, Any], ...]:
    """The rows of peaks.toml."""
    return tuple(tomllib.loads(TABLE.read_text(encoding="utf-8"))["devices"])


def peak_flops(device_name: str, dtype: str) -> float | None:
    """FLOP/s at the peak of a device, dense; None where the table does not have it. dtype: float32, tf32, bfloat16, float16."""
    row = next((row for row in table() if re.fullmatch(row["name"], device_name, re.IGNORECASE)), {})
    tera = row.get(dtype)
    return None if tera is None else float(tera) * 1e12


def arithmetic(autocast: torch.dtype | None) -> str:
    """The arithmetic that matrix products run in: the autocast type, else float32 with or without tf32."""
    if autocast is not None:
        return str(autocast).removeprefix("torch.")
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "float32"


def utilisation(name: str, throughput: Measurement, flops_per_image: float, peak: float) -> Measurement:
    """MFU in [0, 1]: images a second x FLOPs an image / peak, with the interval of the throughput."""
    share = flops_per_image / peak
    low, high = (None if end is None else end * share for end in (throughput.low, throughput.high))
    return Measurement(
        float(throughput) * share,
        name=name,
        low=low,
        high=high,
        n=throughput.n,
        direction="higher",
        interval=throughput.interval,
        note=throughput.note,
    )
