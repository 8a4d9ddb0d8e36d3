"""The adversarial losses, spectral normalisation and what the game converges to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.metrics.collapse import collapse_verdict
from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.adversarial import (
    LOSSES,
    advantage,
    cut_out,
    differentiable_augmentation,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
    shift,
)
from reference_models.gan import GAN


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
    for loss, best in (("lsgan", 0.0), ("wgan-gp", -2.0)):  # real at 1, fake at 0; a distance of 2
        shift_of = 0.0 if loss == "lsgan" else -1.0
        assert float(discriminator_loss(torch.ones(4, 1), torch.zeros(4, 1) + shift_of, loss)) == pytest.approx(best)
    assert float(generator_loss(torch.tensor([[0.0], [3.0]]), "lsgan")) == pytest.approx(0.5 * (1 + 4) / 2)
    assert float(generator_loss(torch.tensor([[0.5], [1.5]]), "wgan-gp")) == -1.0


def test_penalties_of_functions_with_known_gradients() -> None:
    """Of w.x the gradient is w everywhere; of |x|^2 / 2 it is x."""
    w = torch.tensor([3.0, 4.0])
    x, y = torch.randn(2, 6, 2)
    assert float(r1_penalty(lambda x: x @ w, x)) == pytest.approx(25)
    assert float(gradient_penalty(lambda x: x @ w, x, y)) == pytest.approx(16)
    assert float(r1_penalty(lambda x: x.square().sum(1) / 2, x)) == pytest.approx(
        float(x.square().sum(1).mean()), rel=1e-5
    )
    slope = torch.tensor(2.0, requires_grad=True)  # the penalty itself can be differentiated: d(4 slope^2)/d slope
    (gradient,) = torch.autograd.grad(r1_penalty(lambda x: slope * 2 * x[:, 0], x), slope)
    assert float(gradient) == pytest.approx(16)


def test_advantage_counts_pairs() -> None:
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [2.0], [3.0]])
    assert float(advantage(real, fake)) == pytest.approx((1 + 2.5) / 6)
    assert advantage(fake, fake) == 0.5


def test_augmentations_move_and_cut_within_bounds() -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 1, 16, 16)
    dark = (shift(x) == 0).float()
    rows = dark[:, 0].amin(2).sum(1)  # rows that are dark throughout
    assert set(rows.tolist()) == {0.0, 1.0, 2.0}
    hole = (cut_out(x) == 0).float().sum((1, 2, 3))
    assert hole.max() == 64
    assert hole.min() >= 8
    y = differentiable_augmentation(x.requires_grad_())
    assert y.shape == x.shape
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    marked = torch.zeros(1, 2, 8, 8)
    marked[0, :, 3, 4] = torch.tensor([1.0, 2.0])
    moved = shift(marked)
    assert torch.equal(moved.sum((2, 3)), marked.sum((2, 3))), "a pixel moves with all its channels"


@pytest.mark.parametrize("space", [ImageSpace(1, 8, 8), VectorSpace(2)], ids=str)
def test_minibatch_std_compares_real_with_real_and_fake_with_fake(space: ImageSpace | VectorSpace) -> None:
    """Six real and six fake examples make three groups of four: the scores of the real ones must not know the fake ones."""
    torch.manual_seed(0)
    model = GAN(space, width=8, minibatch_std=True, spectral_norm=False).eval()
    real, fake = torch.randn(2, 6, *space.shape)
    scores, _ = model._scores(real, fake)
    torch.testing.assert_close(scores, model._scores(real, 3 * fake)[0])
    torch.testing.assert_close(scores, model.discriminate(real))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("space", [ImageSpace(1, 8, 8), VectorSpace(2)], ids=str)
def test_every_switch_trains(loss: str, space: ImageSpace | VectorSpace) -> None:
    torch.manual_seed(0)
    image = isinstance(space, ImageSpace)
    model = GAN(space, loss=loss, width=8, r1=1.0, minibatch_std=True, augment=image, critic_steps=2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    moved = []
    for _ in range(3):
        losses = model.train_step(Batch(torch.rand(8, *space.shape)), 0.0)
        moved.append(
            not torch.equal(model.generator_optimizer.param_groups[0]["params"][0], next(iter(before.values())))
        )
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        assert all(value.isfinite() for value in losses.values())
    assert moved == [True, False, True], "one step of the generator for two of the discriminator"


def test_minimax_collapses_and_the_collapse_metric_says_so(ring: Tensor, train: Callable) -> None:
    """On 8 modes: a generator that outruns its discriminator in the minimax game loses modes; the stabilised game keeps all."""
    verdicts = {}
    for name, steps, options in (
        ("minimax", 250, {"loss": "minimax", "generator_learning_rate": 2e-2}),
        ("stabilised", 500, {"r1": 0.1, "discriminator_learning_rate": 2e-3}),
    ):
        torch.manual_seed(0)
        model = GAN(VectorSpace(2), latent=8, width=16, spectral_norm=False, **options)
        train(model, ring, steps)
        with torch.inference_mode():
            x = model.sample(1000, SampleGenerator(0, 1000))
        verdicts[name] = float(collapse_verdict(ring[:1000].numpy(), x.numpy(), ring.numpy()))
    assert verdicts == {"minimax": 1.0, "stabilised": 0.0}


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
    assert set(losses) == {"discriminator", "generator", "advantage"}
    assert all(p.requires_grad for p in model.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(changed) >= len(changed) - 1  # a bias before batch normalisation may have no gradient
    assert set(model.optimizers()) == {"generator_optimizer", "discriminator_optimizer"}


@pytest.mark.parametrize("loss", LOSSES)
def test_moves_to_the_data(loss: str, train: Callable) -> None:
    torch.manual_seed(0)
    data = torch.tensor([1.0, -0.5]) + 0.3 * torch.randn(2048, 2)
    model = GAN(VectorSpace(2), loss=loss, latent=8)
    train(model, data, 500, batch_size=64)
    with torch.inference_mode():
        x = model.sample(1000, SampleGenerator(0, 1000))
    target = data.mean(0)
    assert (x.mean(0) - target).norm() < 0.75 * target.norm(), "it began near 0"
    assert 0.02 < x.std(0).mean() < 0.9


def test_wrong_options() -> None:
    for wrong in (
        {"loss": "wasserstein"},
        {"r1": -1.0},
        {"critic_steps": 0},
        {"augment": True},
        {"latent": 0},
        {"generator_learning_rate": 0.0},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            GAN(VectorSpace(2), **wrong)
