"""What metric functions accept: checked feature matrices from arrays or tensors."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

Features: TypeAlias = Union[np.ndarray, "Tensor"]

LARGEST = 1e40
"""No feature may be larger in size: metrics take squares and fourth powers of them."""

SEEDS = 2**32
"""Seeds lie below this, as those of numpy's older generator and of scikit-learn do."""


def to_numpy(values: Any) -> np.ndarray:
    """A dense tensor of any device and type, an array, or what numpy makes one of (lists, frames). BenchError where it makes none."""
    if hasattr(values, "detach"):
        return _of_tensor(values)
    try:
        return np.asarray(values)
    except ValueError:
        raise BenchError("the rows given have different lengths; give rows of d numbers each") from None
    except (TypeError, RuntimeError) as error:  # lists of tensors that are elsewhere, or that require a gradient
        raise BenchError(f"what was given makes no array ({error}); give one array or tensor") from None


def _of_tensor(values: Any) -> np.ndarray:
    try:
        tensor = values.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()  # numpy has no bfloat16
    except (TypeError, RuntimeError):
        kind = f"{values.dtype}, {values.layout}, on {values.device}"
        raise BenchError(f"a tensor ({kind}) makes no array; give a dense one of real numbers") from None


def feature_matrix(features: Features, what: str = "features") -> np.ndarray:
    """``(N, d)`` float32 or float64 (other types become float64) with N >= 2, d >= 1 and all finite, else BenchError."""
    array = to_numpy(features)
    if array.ndim != 2 or array.shape[1] == 0:
        raise BenchError(
            f"{what} must be a matrix (N, d) with d >= 1, but the shape is {array.shape}; one row a sample"
        )
    if len(array) < 2:
        raise BenchError(f"{what} hold {len(array)} row(s), but a distribution needs at least 2 samples")
    if array.dtype not in (np.float32, np.float64):
        array = real_numbers(array, what)
    return usable(array, what)


def usable(array: np.ndarray, what: str) -> np.ndarray:
    """Real numbers ``(N, d)`` as they are, else BenchError: for NaN, infinity, and sizes beyond 1e40, whose powers overflow."""
    array = finite(array, what)
    if array.dtype != np.float32 and array.size and max(array.max(), -array.min()) > LARGEST:
        row = int(np.argmax(np.abs(array).max(1)))
        raise BenchError(f"{what} must not exceed {LARGEST:g} in size, but row {row} does; look at that sample")
    return array


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """Real numbers ``(N, d)`` as they are, else BenchError."""
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(1)))
        raise BenchError(f"{what} must be finite, but row {row} holds NaN or infinity; look at that sample")
    return array


def real_numbers(array: np.ndarray, what: str) -> np.ndarray:
    """float32 and float64 as they are, other real numbers as float64; BenchError for text, complex numbers and objects."""
    if array.dtype.kind not in "fiub":
        raise BenchError(f"{what} must be real numbers, but the type is {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def checked_images(images: Features, *, any_channels: bool = False) -> np.ndarray:
    """An array of uint8 ``(N, H, W, C)`` with C 1 or 3, else BenchError: floats and channels first would be scored wrongly, and
    silently. any_channels: C does not matter."""
    array = to_numpy(images)
    if array.dtype != np.uint8 or array.ndim != 4 or not (any_channels or array.shape[3] in (1, 3)):
        with_channels = "" if any_channels else " with C 1 or 3"
        raise BenchError(f"images must be uint8 (N, H, W, C){with_channels}, not {array.dtype} {array.shape}")
    return array


def vector(values: Features, what: str, n: int | None = None) -> np.ndarray:
    """``(n,)``, one value for each of n examples, else BenchError: of a column ``(n, 1)`` each would be compared with all."""
    array = to_numpy(values)
    if array.ndim != 1 or n not in (None, len(array)):
        wanted = "a vector, one value an example" if n is None else f"one for each of the {n} examples, ({n},)"
        raise BenchError(f"{what} must be {wanted}, but the shape is {array.shape}")
    return array


def number_vector(values: Features, what: str, n: int | None = None) -> np.ndarray:
    """A ``vector`` of real numbers, float64; they may be infinite or NaN."""
    return real_numbers(vector(values, what, n), what).astype(np.float64)


def class_vector(values: Features, what: str, n: int | None = None, classes: int | None = None) -> np.ndarray:
    """A ``vector`` of whole numbers from 0 on, int64; below ``classes`` where that is given."""
    array = vector(values, what, n)
    if array.dtype.kind not in "iub":
        raise BenchError(f"{what} must be whole numbers, but the type is {array.dtype}")
    largest = math.inf if classes is None else classes - 1
    wrong = np.flatnonzero((array < 0) | (array > largest))
    if len(wrong):
        allowed = "at least 0" if classes is None else f"between 0 and {largest}"
        raise BenchError(f"{what} must be {allowed}, but number {wrong[0]} is {array[wrong[0]]}")
    return array.astype(np.int64)


def real_number(value: Any, what: str) -> float:
    """``value`` where it is one finite number (of numpy, too), else BenchError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise BenchError(f"{what} must be a finite number, not {value!r}")
    return float(value)


def seed_number(seed: object) -> int:
    """``seed`` where it is one: a whole number from 0 to 2^32 - 1."""
    number = whole_number(seed, "seed", 0)
    if number >= SEEDS:
        raise BenchError(f"seed must be below {SEEDS}, not {number}")
    return number


def whole_number(value: object, what: str, smallest: int | None = None) -> int:
    """``value`` where it is a whole number (of numpy, too) of at least ``smallest``, else BenchError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BenchError(f"{what} must be a whole number, not {value!r}")
    if smallest is not None and value < smallest:
        raise BenchError(f"{what} must be at least {smallest}, not {value}")
    return int(value)


def feature_pair(real: Features, fake: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both sets checked, and of one width d."""
    reference, samples = feature_matrix(real, "real features"), feature_matrix(fake, "fake features")
    if reference.shape[1] != samples.shape[1]:
        raise BenchError(
            f"real features have {reference.shape[1]} dimensions and fake features {samples.shape[1]}; "
            "both must come from the same layer of the same extractor"
        )
    return reference, samples
