"""Progressive growing: stages, continuity of the fade-in, what is trained when."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator
from reference_models.progressive_gan import ProgressiveGAN, enlarge, real_at


def test_levels_rise_steadily_to_the_full_resolution() -> None:
    model = ProgressiveGAN(ImageSpace(1, 32, 32), width=4, last=0.4)
    levels = [model.level_at(i / 1000) for i in range(1001)]
    assert levels[0] == levels[90] == 0.0, "half of each change trains the level as it is"
    assert all(0 <= b - a < 0.02 for a, b in pairwise(levels))
    assert model.level_at(0.15) == pytest.approx(0.5)
    assert model.level_at(0.2) == pytest.approx(1.0)
    assert model.level_at(0.6) == model.level_at(1.0) == 3.0
    assert ProgressiveGAN(ImageSpace(1, 32, 32), width=4, progressive=False).level_at(0.0) == 3.0
    assert ProgressiveGAN(ImageSpace(1, 7, 7), width=4).level_at(0.0) == 0.0, "nothing to grow"


@pytest.mark.parametrize("level", [1, 2])
def test_nothing_jumps_where_a_level_begins_and_ends(level: int) -> None:
    """At level + 0 and a little above the generator's images are the same (enlarged), and so are the discriminator's scores;
    at the end of the fade-in the old path has no weight."""
    torch.manual_seed(0)
    model = ProgressiveGAN(ImageSpace(3, 32, 32), width=4)
    z, epsilon = torch.randn(8, 64), 1e-6
    before, after = (model.generator(z, level + e) for e in (0.0, epsilon))
    assert after.shape[-1] == 2 * before.shape[-1]
    torch.testing.assert_close(enlarge(before), after, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        model.generator(z, level + 1.0), model.generator(z, level + 1 - epsilon), rtol=1e-3, atol=1e-3
    )
    x = torch.rand(8, 3, 32, 32)
    torch.testing.assert_close(enlarge(real_at(x, level, 4)), real_at(x, level + epsilon, 4), rtol=1e-4, atol=1e-4)
    scores = [model.discriminator(real_at(x, at, 4), at) for at in (level, level + epsilon)]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_real_images_are_shrunk_and_blended() -> None:
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(real_at(x, 0.0, 3), F.avg_pool2d(x, 4))
    assert torch.equal(real_at(x, 2.0, 3), x)
    half = real_at(x, 1.5, 3)
    torch.testing.assert_close(half, (x + enlarge(F.avg_pool2d(x, 2))) / 2)


def test_a_stage_trains_its_own_layers(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = ProgressiveGAN(ImageSpace(1, 8, 8), width=8)
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train_step(Batch(digits[:16]), 0.0)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, state[name])}
    assert not any(".blocks." in name or ".images.1." in name for name in changed)
    assert any(name.startswith("generator.images.0") for name in changed)
    with torch.inference_mode():
        small = model.eval().sample(2, SampleGenerator(0, 2))
    assert torch.equal(small, enlarge(F.avg_pool2d(small, 2))), "a 4x4 image, enlarged"
    for progress in (0.5, 0.9):
        model.train_step(Batch(digits[:16]), progress)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, state[name])}
    assert any(name.startswith("generator.blocks.0") for name in changed)
    assert any(name.startswith("discriminator.images.1") for name in changed)


@pytest.mark.parametrize("loss", ["non-saturating", "wgan-gp"])
def test_moves_to_the_data(loss: str, digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = ProgressiveGAN(ImageSpace(1, 8, 8), width=8, loss=loss)
    with torch.no_grad():
        before = (model.generator(torch.randn(100, 64), 1.0).clamp(-1, 1).mean(0) - digits.mean(0)).abs().mean()
    train(model, digits, 200, batch_size=32)
    with torch.inference_mode():
        x = model.sample(200, SampleGenerator(0, 200))
    assert (x.mean(0) - digits.mean(0)).abs().mean() < 0.6 * before
    assert x.std(0).mean() > 0.1


def test_wrong_options() -> None:
    for wrong in ({"width": 0}, {"loss": "hinge"}, {"r1": -1.0}, {"last": 0.0}, {"learning_rate": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            ProgressiveGAN(ImageSpace(1, 8, 8), **wrong)
