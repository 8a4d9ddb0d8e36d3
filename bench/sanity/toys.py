"""Models simple enough that what is wrong with them is known: a PCA autoencoder and a histogram of pixel values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.metrics.model_input import to_images, to_model
from bench.space import ImageSpace, Space

DETOURS = 5.0

Corrupt = Callable[[np.ndarray], np.ndarray]


class PCAAutoencoder:
    """Reconstructs through the principal components of its training data, then corrupts what it gives.

    step: latents are rounded to multiples of this many standard deviations before they are decoded; 0: not at all.
    winding: each latent z is decoded as z + winding sin(5 z) / 5, whose slope is 1 + winding cos(5 z): images go to and fro.
    """

    def __init__(
        self,
        train: np.ndarray,
        space: Space,
        components: int = 32,
        corrupt: Corrupt | None = None,
        step: float = 0.0,
        winding: float = 0.0,
    ) -> None:
        flat = to_model(train, space).flatten(1)
        self.mean = flat.mean(0)
        _, values, rows = torch.pca_lowrank(flat - self.mean, min(components, *flat.shape), center=False, niter=4)
        self.rows = rows
        self.scale = (values / len(flat) ** 0.5).clamp_min(1e-6)
        self.space, self.corrupt, self.step, self.winding = space, corrupt, step, winding

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.rows / self.scale

    def decode(self, z: Tensor) -> Tensor:
        if self.step > 0:
            z = (z / self.step).round() * self.step
        z = z + self.winding * (DETOURS * z).sin() / DETOURS
        return (self.mean + (z * self.scale) @ self.rows.T).reshape(-1, *self.space.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        rebuilt = self.decode(self.encode(x))
        if self.corrupt is None:
            return rebuilt
        assert isinstance(self.space, ImageSpace)
        return to_model(self.corrupt(to_images(rebuilt)), self.space)


class PixelHistogram:
    """Every pixel by itself, with the frequencies of its 256 values in the training data; mixed with the uniform distribution."""

    nll_kind = "exact"

    def __init__(self, train: np.ndarray, uniform: float) -> None:
        flat = train.reshape(len(train), -1)
        counts = np.stack([np.bincount(flat[:, i], minlength=256) for i in range(flat.shape[1])]) + 0.05
        p = counts / counts.sum(1, keepdims=True)
        self.log_p = torch.from_numpy(np.log((1 - uniform) * p + uniform / 256))  # (pixels, 256)

    def nll(self, x: Tensor) -> Tensor:
        pixels = torch.from_numpy(to_images(x)).flatten(1).long()
        return -self.log_p[torch.arange(pixels.shape[1]), pixels].sum(1)
