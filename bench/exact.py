"""Exact float32 while features and distances are computed, whatever the training loop has switched on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

_LOCK = threading.Lock()
_inside = 0  # threads and nested calls that compute exactly now
_before: list[tuple[Any, str, Any]] = []  # what the first of them found, and the last one puts back


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 products and convolutions are computed in float32, not TF32 or bfloat16; the settings before are restored.

    cuDNN convolutions use TF32 by default (10 bits of mantissa: features off by about 1e-3), and
    ``torch.set_float32_matmul_precision("high")``, common in training loops, does the same to matrix products. Autocast is off
    inside, too. The settings are those of the whole process: several threads may be inside, and the last one to leave restores them.
    """
    _enter()
    try:
        with contextlib.ExitStack() as without_autocast:
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    without_autocast.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        _leave()


def _enter() -> None:
    global _inside
    with _LOCK:
        if _inside == 0:
            _before[:] = [(owner, name, getattr(owner, name)) for owner, name, _ in _switches()]
            for owner, name, exact in _switches():
                setattr(owner, name, exact)
        _inside += 1


def _leave() -> None:
    global _inside
    with _LOCK:
        _inside -= 1
        if _inside == 0:
            for owner, name, value in _before:
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
