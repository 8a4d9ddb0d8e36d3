"""Classifier-free guidance: its fixed points, labels learned, class shares, and what the harness reads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.model import Batch, BenchError, Conditional, SampleGenerator, VectorSpace
from bench.plan import with_classes
from bench.scoring import conditions_of
from reference_models.conditional_diffusion import ConditionalDiffusion
from reference_models.ddpm import DDPM


def learned() -> ConditionalDiffusion:
    """Class 0 at -1, class 1 at +1, three times as frequent."""
    torch.manual_seed(0)
    model = ConditionalDiffusion(VectorSpace(1), classes=2, width=32)
    for step in range(250):
        labels = (torch.rand(64) < 0.75).long()
        model.train_step(Batch((2.0 * labels - 1)[:, None] + 0.1 * torch.randn(64, 1), labels), step / 250)
    return model.eval()


def test_labels_are_followed_and_shares_kept() -> None:
    model = learned()
    with torch.inference_mode():
        for label in (0, 1):
            x = model.sample(64, SampleGenerator(0, 64), labels=torch.full((64,), label))
            assert ((x - (2 * label - 1)).abs() < 0.5).float().mean() > 0.95
        x = model.sample(400, SampleGenerator(0, 400))
    conditions = conditions_of(model, 400)
    assert conditions is not None
    assert abs(conditions.mean() - 0.75) < 0.03
    assert ((x[:, 0] > 0).long().numpy() == conditions).mean() > 0.95
    assert torch.equal(model.labels_of(torch.arange(10))[3:], model.labels_of(torch.arange(3, 10)))


def test_weight_one_is_no_guidance_and_weight_zero_ignores_the_label() -> None:
    torch.manual_seed(0)
    model = ConditionalDiffusion(VectorSpace(3), classes=4, width=16)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, labels, nothing = torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0]), torch.full((5,), 4)
    times = torch.full((5,), 0.5)
    given, none = model.network(x, times, labels), model.network(x, times, nothing)
    assert not torch.allclose(given, none, atol=0.01)
    for scale in (0.0, 1.0, 2.5, 1.0 + 1e-7):
        torch.testing.assert_close(model.predict(x, 0.5, labels, scale), none + scale * (given - none))


def test_evaluations_count_both_passes() -> None:
    space = VectorSpace(1)
    assert ConditionalDiffusion(space, classes=2, guidance_scale=1.0, steps=10).nfe == 10
    assert ConditionalDiffusion(space, classes=2, guidance_scale=3.0, steps=10).nfe == 20


def test_the_harness_gives_the_number_of_classes() -> None:
    labelled = SimpleNamespace(train_labels=np.array([0, 2, 1]), classes=("a", "b", "c", "never seen"))
    assert with_classes(ConditionalDiffusion, {"steps": 5}, labelled) == {"steps": 5, "classes": 4}
    assert with_classes(ConditionalDiffusion, {"classes": 7}, labelled) == {"classes": 7}
    assert with_classes(DDPM, {}, labelled) == {}
    assert isinstance(ConditionalDiffusion(VectorSpace(1), classes=2), Conditional)
    assert conditions_of(DDPM(VectorSpace(1)), 3) is None


def test_data_without_labels_and_wrong_options_are_named() -> None:
    with pytest.raises(BenchError, match="no labels"):
        ConditionalDiffusion(VectorSpace(1))
    with pytest.raises(BenchError, match="with labels"):
        ConditionalDiffusion(VectorSpace(1), classes=2).train_step(Batch(torch.randn(4, 1)), 0.0)
    for wrong in ({"guidance_scale": -1.0}, {"drop": 1.0}, {"classes": 0}, {"sampler": "x"}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            ConditionalDiffusion(VectorSpace(1), **{"classes": 2, **wrong})
