"""What metric functions accept: checked feature matrices from arrays or tensors."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bench.errors import BenchError

Features = np.ndarray | Tensor


def feature_matrix(features: Features, what: str = "features") -> np.ndarray:
    """``(N, d)`` float32 or float64 (other types become float64) with N >= 2, d >= 1 and all finite, else BenchError."""
    array = features.detach().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    if array.ndim != 2 or array.shape[1] == 0:
        raise BenchError(
            f"{what} must be a matrix (N, d) with d >= 1, but the shape is {array.shape}; one row a sample"
        )
    if len(array) < 2:
        raise BenchError(f"{what} hold {len(array)} row(s), but a distribution needs at least 2 samples")
    if array.dtype not in (np.float32, np.float64):
        if array.dtype.kind not in "fiub":
            raise BenchError(f"{what} must be real numbers, but the type is {array.dtype}")
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(1)))
        raise BenchError(f"{what} must be finite, but row {row} holds NaN or infinity; look at that sample")
    return array


def feature_pair(real: Features, fake: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both sets checked, and of one width d."""
    reference, samples = feature_matrix(real, "real features"), feature_matrix(fake, "fake features")
    if reference.shape[1] != samples.shape[1]:
        raise BenchError(
            f"real features have {reference.shape[1]} dimensions and fake features {samples.shape[1]}; "
            "both must come from the same layer of the same extractor"
        )
    return reference, samples
