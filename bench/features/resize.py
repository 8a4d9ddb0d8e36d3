"""Resizing by named protocol, batched, on any device.

How images are resized changes a Fréchet distance by more than most papers' improvements (Parmar et al., "On Aliased
Resizing and Surprising Subtleties in GAN Evaluation", 2021, arXiv 2104.11222), so every way to resize has a name:

``clean``
    PIL's antialiased bicubic filter on float images, as clean-fid does; nothing is rounded.
``legacy_pytorch``
    bilinear without antialiasing, pixel centres at halves, as pytorch-fid does.
``legacy_tensorflow``
    bilinear without antialiasing, pixel corners aligned at zero, as TensorFlow 1 and torch-fidelity do.

All three are separable: two products with a banded matrix. The matrix is made once per size, in float64 from the
filter's formula, and applied to whole batches in blocks of outputs, each of which reads only the inputs it needs.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError, did_you_mean

ResizeMode = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]
MODES: tuple[str, ...] = get_args(ResizeMode)

_BLOCK = 64  # outputs per block: short enough to skip most of the zeros, long enough for a matrix product
_CPU_CHUNK_BYTES = 1 << 22  # float32 output per chunk on a CPU: stays in the cache


class _Band(NamedTuple):
    """Rows ``start:stop`` of a resize matrix and the columns ``low:high`` in which they are not zero."""

    start: int
    stop: int
    low: int
    high: int
    weights: Tensor


def resize(images: Tensor, size: int | tuple[int, int], mode: ResizeMode = "clean") -> Tensor:
    """Resize a batch.

    images: ``(B, H, W, C)``, uint8 or float in [0, 255]. size: side, or (height, width).
    Returns float32 ``(B, C, height, width)`` in [0, 255], not rounded.
    """
    check_mode(mode)
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise BenchError(
            f"resize needs images of shape (B, H, W, C), got {tuple(images.shape)}; add the batch dimension"
        )
    height, width = (size, size) if isinstance(size, int) else size
    rows = _bands(mode, images.shape[1], height, images.device)
    columns = _bands(mode, images.shape[2], width, images.device)
    count, channels = images.shape[0], images.shape[3]
    result = torch.empty(count, channels, height, width, device=images.device)
    chunk = (
        max(1, _CPU_CHUNK_BYTES // (4 * channels * height * width)) if images.device.type == "cpu" else max(1, count)
    )
    for start in range(0, count, chunk):
        pixels = images[start : start + chunk].permute(0, 3, 1, 2).to(torch.float32).contiguous()
        _resize_planes(pixels, rows, columns, result[start : start + chunk])
    return result.clamp_(0, 255)


def check_mode(mode: str) -> None:
    """Raises BenchError where ``mode`` is not one of ``MODES``."""
    if mode not in MODES:
        raise BenchError(f"unknown resize mode '{mode}'; {did_you_mean(mode, MODES)}")


def _resize_planes(pixels: Tensor, rows: tuple[_Band, ...], columns: tuple[_Band, ...], out: Tensor) -> None:
    """``(B, C, H, W)`` -> ``out`` ``(B, C, height, width)``: first along the width, then along the height, as PIL does."""
    middle = pixels.new_empty(*pixels.shape[:3], out.shape[3])
    for band in columns:
        middle[..., band.start : band.stop] = pixels[..., band.low : band.high] @ band.weights.T
    for band in rows:
        out[:, :, band.start : band.stop] = band.weights @ middle[:, :, band.low : band.high]


@functools.lru_cache(maxsize=64)
def _bands(mode: ResizeMode, before: int, after: int, device: torch.device) -> tuple[_Band, ...]:
    """The resize matrix of one axis, cut into blocks of rows without their outer zeros."""
    matrix = resize_matrix(mode, before, after)
    bands = []
    for start in range(0, after, _BLOCK):
        block = matrix[start : start + _BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = torch.tensor(block[:, low:high], dtype=torch.float32, device=device)
        bands.append(_Band(start, start + len(block), low, high, weights))
    return tuple(bands)


def resize_matrix(mode: ResizeMode, before: int, after: int) -> np.ndarray:
    """The float64 ``(after, before)`` matrix that resizes one axis of ``before`` pixels; each row sums to 1."""
    check_mode(mode)
    if mode == "clean":
        return _antialiased_bicubic(before, after)
    position = _tensorflow_positions(before, after) if mode == "legacy_tensorflow" else _centre_positions(before, after)
    lower = position.astype(np.int64)
    upper = np.minimum(lower + 1, before - 1)
    fraction = position - lower
    matrix = np.zeros((after, before))
    row = np.arange(after)
    np.add.at(matrix, (row, lower), 1 - fraction)
    np.add.at(matrix, (row, upper), fraction)
    return matrix


def _tensorflow_positions(before: int, after: int) -> np.ndarray:
    """Output i reads at i * before / after, in float32 as TensorFlow computes it."""
    positions = np.arange(after, dtype=np.float32) * np.float32(before / after)
    return np.minimum(positions.astype(np.float64), before - 1)


def _centre_positions(before: int, after: int) -> np.ndarray:
    """Output i reads at (i + 1/2) * before / after - 1/2, the scale in float32 as in torch; edges are repeated."""
    positions = (np.arange(after) + 0.5) * float(np.float32(before / after)) - 0.5
    return np.clip(positions.astype(np.float32).astype(np.float64), 0, before - 1)


def _antialiased_bicubic(before: int, after: int) -> np.ndarray:
    """PIL's coefficients: Keys' cubic with a = -1/2, stretched by the scale when shrinking, normalised in each row."""
    scale = before / after
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    matrix = np.zeros((after, before))
    for i in range(after):
        centre = (i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), before)
        weights = _cubic((np.arange(low, high) - centre + 0.5) / stretch)
        matrix[i, low:high] = weights / weights.sum()
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2 (Keys 1981), zero outside [-2, 2]."""
    a, x = -0.5, np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))
