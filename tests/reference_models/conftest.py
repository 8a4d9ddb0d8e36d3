"""Small real data and a training loop for the tests of the reference models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import Batch, GenerativeModel


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """512 handwritten digits, 8x8 grey, ``(512, 1, 8, 8)`` in [-1, 1] on the grid of 256 levels."""
    from sklearn.datasets import load_digits

    grey = torch.as_tensor(load_digits().images[:512] * (255 / 16)).round()
    return (grey / 127.5 - 1).float()[:, None]


@pytest.fixture(scope="session")
def ring() -> Tensor:
    """4096 points of a mixture of 8 Gaussians on a circle of radius 1.4 (unit variance), standard deviation 0.07."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.randint(8, (4096,), generator=generator) * (torch.pi / 4)
    centres = 1.4 * torch.stack([angle.cos(), angle.sin()], 1)
    return centres + 0.07 * torch.randn(4096, 2, generator=generator)


@pytest.fixture(scope="session")
def train() -> Callable[..., list[dict[str, float]]]:
    """``train(model, data, steps, batch_size=64)`` -> the losses of every step; ends in eval mode, with the prior fitted."""

    def train_model(model: GenerativeModel, data: Tensor, steps: int, batch_size: int = 64) -> list[dict[str, float]]:
        order, losses = torch.Generator().manual_seed(0), []
        model.train()
        for step in range(steps if model.trains else 0):
            chosen = torch.randint(len(data), (batch_size,), generator=order)
            captions = tuple(f"example of kind {label}" for label in (chosen % 10).tolist())
            losses.append(model.train_step(Batch(data[chosen], chosen % 10, captions), step / steps))
        model.eval()
        if hasattr(model, "fit_prior"):
            model.fit_prior([Batch(part) for part in data.split(batch_size)])
        return [{name: float(loss) for name, loss in each.items()} for each in losses]

    return train_model
