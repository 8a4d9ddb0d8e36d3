"""Structural similarity of image pairs, at one scale (SSIM) and at several (MS-SSIM): one value a pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.errors import BenchError
from bench.metrics.inputs import Features, to_numpy

WINDOW = 11
"""Width of the Gaussian window (standard deviation 1.5); smaller images have no SSIM."""

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first."""

C1, C2 = 0.01**2, 0.03**2


def ssim(first: Features, second: Features, batch_size: int = 256) -> np.ndarray:
    """SSIM of each pair of uint8 images ``(N, H, W, C)``, H and W at least 11 -> float64 ``(N,)`` in [-1, 1]; 1 is equal.

    Gaussian window 11 x 11, sigma 1.5, valid positions only, K1 = 0.01, K2 = 0.03, mean over channels; float64.
    "Image Quality Assessment: From Error Visibility to Structural Similarity", Wang et al. 2004.
    """
    pairs = _checked_pairs(first, second, WINDOW)
    return _in_batches(lambda x, y: _similarity(x, y)[0].mean(1), *pairs, batch_size)


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five scales an image of this size has: each halves it, and 11 pixels must remain."""
    scales = 0
    while scales < len(MS_SSIM_WEIGHTS) and min(height, width) >> scales >= WINDOW:
        scales += 1
    return scales


def ms_ssim(first: Features, second: Features, batch_size: int = 256) -> np.ndarray:
    """Multi-scale SSIM of each pair of uint8 images ``(N, H, W, C)`` -> float64 ``(N,)`` in [0, 1].

    Five scales where the smaller side has at least 176 pixels; smaller images use the scales they have, with the weights
    of those renormalised to sum 1 (32 px: two scales). Negative contrast terms count as 0. Mean over channels.
    "Multi-scale Structural Similarity for Image Quality Assessment", Wang, Simoncelli, Bovik 2003.
    """
    pairs = _checked_pairs(first, second, WINDOW)
    scales = ms_ssim_scales(*pairs[0].shape[1:3])
    weights = np.array(MS_SSIM_WEIGHTS[:scales])
    if scales < len(MS_SSIM_WEIGHTS):  # the five published weights are used as they are
        weights /= weights.sum()

    def compare(x: Tensor, y: Tensor) -> Tensor:
        product = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
        for scale, weight in enumerate(weights):
            full, contrast = _similarity(x, y)
            term = full if scale == scales - 1 else contrast
            product = product * term.clamp_min(0) ** float(weight)
            if scale < scales - 1:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return product.mean(1)

    return _in_batches(compare, *pairs, batch_size)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of float64 ``(B, C, H, W)`` in [0, 1] -> two ``(B, C)``."""
    mean_x, mean_y, square_x, square_y, product = (_blur(z) for z in (x, y, x * x, y * y, x * y))
    variance_x, variance_y, covariance = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    contrast = (2 * covariance + C2) / (variance_x + variance_y + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _blur(images: Tensor) -> Tensor:
    """Local Gaussian means at the positions where the window fits."""
    batch, channels, height, width = images.shape
    position = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    window = torch.exp(-(position**2) / (2 * 1.5**2))
    window = (window / window.sum()).reshape(1, 1, 1, WINDOW)
    planes = images.reshape(batch * channels, 1, height, width)
    blurred = F.conv2d(F.conv2d(planes, window), window.transpose(2, 3))
    return blurred.reshape(batch, channels, *blurred.shape[2:])


def _in_batches(
    compare: Callable[[Tensor, Tensor], Tensor], first: np.ndarray, second: np.ndarray, batch_size: int
) -> np.ndarray:
    values = []
    for start in range(0, len(first), batch_size):
        x, y = (torch.from_numpy(images[start : start + batch_size]) for images in (first, second))
        values.append(compare(x.permute(0, 3, 1, 2).double() / 255, y.permute(0, 3, 1, 2).double() / 255))
    return torch.cat(values).numpy() if values else np.zeros(0)


def _checked_pairs(one: Features, other: Features, smallest: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = to_numpy(one), to_numpy(other)
    if first.shape != second.shape or first.ndim != 4 or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise BenchError(
            f"SSIM compares two uint8 arrays (N, H, W, C) of one shape, not {first.dtype} {first.shape} "
            f"and {second.dtype} {second.shape}"
        )
    if min(first.shape[1:3]) < smallest:
        raise BenchError(f"SSIM needs images of at least {smallest} x {smallest} pixels, not {first.shape[1:3]}")
    return first, second
