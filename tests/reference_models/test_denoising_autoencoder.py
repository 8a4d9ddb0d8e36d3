"""The denoising autoencoder: what it is trained to undo."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import BenchError, ImageSpace, VectorSpace
from reference_models.autoencoder import Autoencoder
from reference_models.denoising_autoencoder import DenoisingAutoencoder, corrupt


def test_corruptions_are_as_strong_as_asked() -> None:
    torch.manual_seed(0)
    x = torch.ones(100, 400)
    noisy = corrupt(x, "gaussian", 0.3)
    assert float((noisy - x).std()) == pytest.approx(0.3, rel=0.02)
    masked = corrupt(x, "masking", 0.25)
    assert float((masked == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(corrupt(x, "gaussian", 0.0), x)


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_restores_damaged_digits_better_than_a_plain_autoencoder(
    corruption: str, digits: Tensor, train: Callable
) -> None:
    errors = {}
    damaged = corrupt(digits, corruption, 0.6)
    for kind, options in ((Autoencoder, {}), (DenoisingAutoencoder, {"corruption": corruption, "strength": 0.6})):
        torch.manual_seed(0)
        model = kind(ImageSpace(1, 8, 8), width=16, latent=64, **options)  # large enough to pass noise on
        train(model, digits, 600)
        with torch.inference_mode():
            errors[kind] = float((model.reconstruct(damaged) - digits).square().mean())
    assert errors[DenoisingAutoencoder] < 0.85 * errors[Autoencoder]
    assert errors[DenoisingAutoencoder] < float((damaged - digits).square().mean())


def test_overfits_one_batch(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = DenoisingAutoencoder(ImageSpace(1, 8, 8), width=16, strength=0.1)
    train(model, digits[:4], 300, batch_size=16)
    assert float((model.reconstruct(digits[:4]) - digits[:4]).detach().square().mean()) < 0.03


def test_wrong_options() -> None:
    for wrong in (
        {"corruption": "salt"},
        {"strength": -0.1},
        {"corruption": "masking", "strength": 1.0},
        {"latent": 0},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong)) if len(wrong) == 1 else "strength"):
            DenoisingAutoencoder(VectorSpace(2), **wrong)
