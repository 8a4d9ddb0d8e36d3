"""From a trained model to its sample set: reproducible sample by sample, in the format of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import TrialFailure
from bench.measure.clock import Lap, synchronise
from bench.model import GenerativeModel, SampleGenerator
from bench.space import ImageSpace, Space, TokenSpace


def to_array(samples: Tensor, space: Space) -> np.ndarray:
    """Model range -> the data's format: images to uint8 NHWC (clamped, rounded), tokens to int64, vectors to float32."""
    samples = samples.detach()
    if isinstance(space, ImageSpace):
        grey = ((samples.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
        return np.ascontiguousarray(grey.permute(0, 2, 3, 1).cpu().numpy())
    if isinstance(space, TokenSpace):
        return samples.to(torch.int64).cpu().numpy()
    return samples.to(torch.float32).cpu().numpy()


def to_model_range(array: np.ndarray | Tensor, space: Space, device: torch.device | str = "cpu") -> Tensor:
    """The data's format -> model range: images to float32 NCHW in [-1, 1]."""
    tensor = torch.as_tensor(array, device=device)
    if isinstance(space, ImageSpace):
        return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()
    return tensor


def draw_batch(model: GenerativeModel, n: int, seed: int, start: int = 0, **options: Any) -> Tensor:
    """Samples number ``start ... start + n - 1`` of the stream ``seed``, ``(n, *shape)`` in model range, checked.

    options: handed to the model's ``sample``.
    """
    samples = model.sample(n, SampleGenerator(seed, n, start, model.device), **options)
    if samples.shape != (n, *model.space.shape):
        raise TrialFailure(
            "failed", f"sample() returned shape {tuple(samples.shape)} where {(n, *model.space.shape)} was due"
        )
    return samples


def draw(
    model: GenerativeModel,
    n: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
    **options: Any,
) -> tuple[np.ndarray, list[float]]:
    """The sample set of ``n`` samples, and the seconds of each *full* batch after the first (the first warms up).

    on_batch: called with the number of samples drawn so far. options: handed to the model's ``sample``.
    """
    device = model.device
    arrays, laps = [], []
    lap = Lap(device)
    model.eval()
    with torch.inference_mode():
        for start in range(0, n, batch_size):
            size = min(batch_size, n - start)
            synchronise(device)
            lap.start()
            samples = draw_batch(model, size, seed, start, **options)
            seconds = lap.stop()
            if start > 0 and size == batch_size:
                laps.append(seconds)
            if samples.is_floating_point() and not torch.isfinite(samples).all():
                raise TrialFailure("diverged", "the model generated values that are not finite")
            arrays.append(to_array(samples, model.space))
            if on_batch:
                on_batch(start + size)
    return np.concatenate(arrays), laps
