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
    """The fastest arithmetic that matrix products or convolutions may run in: the autocast type, else tf32 where it is allowed for
    either (torch allows it for convolutions, unless told otherwise), else float32. So a utilisation never exceeds 1."""
    if autocast is not None:
        return str(autocast).removeprefix("torch.")
    matmul, convolution = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", None)
    if convolution is None:  # torch before 2.9
        return "tf32" if matmul.allow_tf32 or torch.backends.cudnn.allow_tf32 else "float32"
    return "tf32" if "tf32" in (matmul.fp32_precision, convolution.fp32_precision) else "float32"


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
