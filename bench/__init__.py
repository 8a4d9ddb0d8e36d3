"""gen-bench: one fair, statistically honest scoreboard for generative models.

Public face; everything is imported on first use, so that ``import bench`` is quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "BenchError": "bench.errors",
    "Batch": "bench.model",
    "GenerativeModel": "bench.model",
    "ImageSpace": "bench.space",
    "Measurement": "bench.record",
    "Record": "bench.record",
    "SampleGenerator": "bench.model",
    "TokenSpace": "bench.space",
    "VectorSpace": "bench.space",
    "compare": "bench.gate.api",
    "load_model": "bench.model_file",
    "load_results": "bench.store",
    "run": "bench.api",
    "save_model": "bench.model_file",
    "score": "bench.foreign",
}
_MODULES = ("features", "metrics")
__all__ = [*_WHERE, *_MODULES]

if TYPE_CHECKING:
    from bench import features as features
    from bench import metrics as metrics
    from bench.api import run as run
    from bench.errors import BenchError as BenchError
    from bench.foreign import score as score
    from bench.gate.api import compare as compare
    from bench.model import Batch as Batch
    from bench.model import GenerativeModel as GenerativeModel
    from bench.model import SampleGenerator as SampleGenerator
    from bench.model_file import load_model as load_model
    from bench.model_file import save_model as save_model
    from bench.record import Measurement as Measurement
    from bench.record import Record as Record
    from bench.space import ImageSpace as ImageSpace
    from bench.space import TokenSpace as TokenSpace
    from bench.space import VectorSpace as VectorSpace
    from bench.store import load_results as load_results


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bench.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)
