"""The adversarial losses, spectral normalisation and what the game converges to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.gan import GAN, LOSSES, discriminator_loss, generator_loss


def test_losses_are_cross_entropies() -> None:
    real, fake = 3 * torch.randn(2, 16, 1)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    cross_entropy = F.binary_cross_entropy_with_logits
    for loss in ("non-saturating", "minimax"):
        expected = cross_entropy(real, ones) + cross_entropy(fake, zeros)
        torch.testing.assert_close(discriminator_loss(real, fake, loss), expected)
    torch.testing.assert_close(generator_loss(fake, "non-saturating"), cross_entropy(fake, ones))
    torch.testing.assert_close(generator_loss(fake, "minimax"), -cross_entropy(fake, zeros))
    torch.testing.assert_close(generator_loss(fake, "hinge"), -fake.mean())
    assert discriminator_loss(torch.full((4, 1), 2.0), torch.full((4, 1), -2.0), "hinge") == 0


def test_minimax_saturates_where_the_discriminator_wins_and_non_saturating_does_not() -> None:
    gradients = {}
    for loss in ("minimax", "non-saturating"):
        fake = torch.tensor([[-10.0]], requires_grad=True)
        (gradients[loss],) = torch.autograd.grad(generator_loss(fake, loss), fake)
        assert gradients[loss] < 0  # both raise the score
    assert gradients["minimax"].abs() < 1e-4
    assert gradients["non-saturating"].abs() > 0.99


def test_every_layer_of_the_discriminator_has_spectral_norm_one(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = GAN(ImageSpace(1, 8, 8), width=16)
    train(model, digits, 60)
    layers = [layer for layer in model.discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, abs=0.1)


def test_a_step_changes_both_networks_and_leaves_all_gradients_on(digits: Tensor) -> None:
    model = GAN(ImageSpace(1, 8, 8), width=8)
    before = [p.detach().clone() for p in model.parameters()]
    losses = model.train_step(Batch(digits[:32]), 0.0)
    assert set(losses) == {"discriminator", "generator"}
    assert all(p.requires_grad for p in model.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(changed) >= len(changed) - 1  # a bias before batch normalisation may have no gradient
    assert set(model.optimizers()) == {"generator_optimizer", "discriminator_optimizer"}


@pytest.mark.parametrize("loss", LOSSES)
def test_moves_to_the_data(loss: str, train: Callable) -> None:
    torch.manual_seed(0)
    data = torch.tensor([1.0, -0.5]) + 0.3 * torch.randn(2048, 2)
    model = GAN(VectorSpace(2), loss=loss, latent=8)
    train(model, data, 1200, batch_size=128)
    with torch.inference_mode():
        x = model.sample(1000, SampleGenerator(0, 1000))
    torch.testing.assert_close(x.mean(0), data.mean(0), atol=0.5, rtol=0)  # it began at 0, more than 1 away
    assert 0.02 < x.std(0).mean() < 0.9


def test_wrong_options() -> None:
    for wrong in ({"loss": "wasserstein"}, {"latent": 0}, {"generator_learning_rate": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            GAN(VectorSpace(2), **wrong)
