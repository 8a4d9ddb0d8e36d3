"""How good and how diverse: one file a metric family, pure functions on arrays, imported on first use.

from bench.metrics import frechet_distance, kernel_distance, prdc
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "frechet_distance": "frechet",
    "frechet_distance_corrected": "frechet",
    "frechet_distance_from_stats": "frechet",
    "fid_infinity": "frechet_infinity",
    "kernel_distance": "kernel",
    "kernel_distance_subsets": "kernel",
    "cmmd": "kernel",
    "inception_score": "inception",
    "prdc": "precision_recall",
    "realism_score": "precision_recall",
    "vendi_score": "vendi",
    "perceptual_path_length": "latent",
    "lpips_diversity": "perceptual",
    "ndb": "bins",
    "authpct": "memorisation",
    "data_copying": "memorisation",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
