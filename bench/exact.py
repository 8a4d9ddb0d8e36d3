"""Exact float32 while features and distances are computed, whatever the training loop has switched on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 products and convolutions are computed in float32, not TF32 or bfloat16; the settings before are restored.

    cuDNN convolutions use TF32 by default (10 bits of mantissa: features off by about 1e-3), and
    ``torch.set_float32_matmul_precision("high")``, common in training loops, does the same to matrix products.
    """
    switches = list(_switches())
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, exact in switches:
            setattr(owner, name, exact)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before):
            setattr(owner, name, value)


def _switches() -> Iterator[tuple[Any, str, Any]]:
    """(object, attribute, exact value) of each setting that may round float32 to fewer bits."""
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch >= 2.9
        for operators in (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul):
            yield operators, "fp32_precision", "ieee"
    else:
        yield backends.cudnn, "allow_tf32", False
        yield backends.cuda.matmul, "allow_tf32", False
