"""Between the arrays of data sets (uint8 NHWC, tokens, vectors) and the tensors that models see and give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.space import ImageSpace, Space, TokenSpace


def to_model(array: np.ndarray, space: Space, device: str = "cpu") -> Tensor:
    """uint8 ``(N, H, W, C)`` -> float32 ``(N, C, H, W)`` in [-1, 1]; tokens -> int64; vectors -> float32."""
    if array.shape[1:] != _array_shape(space):
        raise BenchError(f"an array of shape {array.shape} does not hold {space}: expected (N, {_array_shape(space)})")
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    if isinstance(space, ImageSpace):
        return tensor.permute(0, 3, 1, 2).float() / 127.5 - 1
    return tensor.long() if isinstance(space, TokenSpace) else tensor.float()


def to_images(tensor: Tensor) -> np.ndarray:
    """float ``(N, C, H, W)`` in [-1, 1] -> uint8 ``(N, H, W, C)``, clamped and rounded, as every sample set is."""
    pixels = ((tensor.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def model_batches(array: np.ndarray, space: Space, device: str = "cpu", batch_size: int = 256) -> Iterator[Tensor]:
    """``array`` as the model sees it, in order, in batches."""
    for start in range(0, len(array), batch_size):
        yield to_model(array[start : start + batch_size], space, device)


def _array_shape(space: Space) -> tuple[int, ...]:
    if isinstance(space, ImageSpace):
        return (space.height, space.width, space.channels)
    return space.shape
