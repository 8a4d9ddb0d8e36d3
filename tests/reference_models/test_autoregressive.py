"""Autoregressive models: the order is kept, probabilities sum to one, and sampling from the cache is sampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import BenchError, GenerativeModel, ImageSpace, SampleGenerator
from reference_models import logistic_mixture
from reference_models.image_gpt import ImageGPT, default_patch
from reference_models.pixelcnn import PixelCNN


def make(kind: str, space: ImageSpace) -> GenerativeModel:
    """A small model with random weights everywhere."""
    torch.manual_seed(0)
    if kind == "pixelcnn":
        model: GenerativeModel = PixelCNN(space, width=8, layers=4)
    else:
        patch = {"image-gpt of pixels": 1, "image-gpt of patches": 2}[kind]
        model = ImageGPT(space, width=16, depth=2, heads=2, local=8, patch=patch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


KINDS = ["pixelcnn", "image-gpt of pixels", "image-gpt of patches"]
SPACES = [ImageSpace(1, 6, 8), ImageSpace(3, 4, 6)]


def order_of(model: GenerativeModel, x: Tensor) -> Tensor:
    """The pixels ``(B, H W, C)`` of x in the order of generation."""
    return (model.patches(x) if isinstance(model, ImageGPT) else x.permute(0, 2, 3, 1)).flatten(1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_no_pixel_depends_on_itself_or_later_ones(kind: str, space: ImageSpace) -> None:
    model = make(kind, space)
    x = (torch.randint(256, (2, *space.shape)) / 127.5 - 1).requires_grad_(True)
    raw = model.parameters_of_pixels(x).flatten(1, 2)
    for position in (0, 1, 9, raw.shape[1] - 1):
        (gradient,) = torch.autograd.grad(raw[:, position].sum(), x, retain_graph=True)
        influence = order_of(model, gradient).abs().sum((0, 2))
        assert influence[position:].max() == 0
        assert (influence[:position] > 0).all(), "and it sees every earlier one"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_cached_sampling_is_sampling(kind: str, space: ImageSpace) -> None:
    """Pixel by pixel through the whole network, with the same noise, gives the same image."""
    model = make(kind, space)
    with torch.inference_mode():
        cached = model.sample(5, SampleGenerator(3, 5))
        generator, x = SampleGenerator(3, 5), torch.zeros(5, *space.shape)
        places = torch.arange(space.height * space.width).view(1, 1, space.height, space.width)
        order = order_of(model, places.expand(1, space.channels, -1, -1).float())[0, :, 0].long()
        for position, place in enumerate(order):
            raw = model.parameters_of_pixels(x).flatten(1, 2)[:, position]
            x.flatten(2)[:, :, place] = logistic_mixture.draw(raw, space.channels, generator)
    torch.testing.assert_close(cached, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nll_is_the_sum_over_pixels_and_independent_of_the_batch(kind: str) -> None:
    model = make(kind, ImageSpace(3, 4, 6))
    x = torch.randint(256, (4, 3, 4, 6)) / 127.5 - 1
    raw = model.parameters_of_pixels(x)
    each = logistic_mixture.log_probability(order_of(model, x), raw.flatten(1, 2))
    torch.testing.assert_close(model.nll(x), -each.sum(1).detach())
    torch.testing.assert_close(model.nll(x)[2:3], model.nll(x[2:3]), rtol=1e-4, atol=1e-3)
    assert model.nll_kind == "exact"


def test_patches_are_in_reading_order() -> None:
    model = make("image-gpt of patches", ImageSpace(3, 4, 6))
    x = torch.arange(72.0).view(1, 3, 4, 6)
    patches = model.patches(x)
    assert patches[0, 0, :, 0].tolist() == [0, 1, 6, 7], "the first patch of the first channel, in reading order"
    assert patches[0, 1, :, 2].tolist() == [50, 51, 56, 57]


def test_probabilities_of_grey_levels_sum_to_one() -> None:
    levels = torch.arange(256).float()[:, None] / 127.5 - 1
    raw = torch.randn(20, 1, logistic_mixture.outputs(1, 4))
    total = logistic_mixture.log_probability(levels, raw.expand(20, 256, -1)).double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones(20, dtype=torch.float64), atol=1e-4, rtol=0)


def test_draws_follow_the_probabilities() -> None:
    """Two channels: the frequency of each pair of coarse levels, drawn and by the formula; the second depends on the first."""
    torch.manual_seed(2)
    raw = torch.randn(logistic_mixture.outputs(2, 3))
    n = 40_000
    x = logistic_mixture.draw(raw.expand(n, -1), 2, SampleGenerator(0, n))
    level = ((x + 1) * 127.5).round().long()
    assert torch.equal(level / 127.5 - 1, x)
    pairs = torch.cartesian_prod(torch.arange(256), torch.arange(256))
    log_p = logistic_mixture.log_probability(pairs / 127.5 - 1, raw.expand(len(pairs), -1))
    p = log_p.double().exp().view(256, 256)
    assert float(p.sum()) == pytest.approx(1, abs=1e-3)
    expected = p.view(8, 32, 8, 32).sum((1, 3))
    found = torch.bincount((level[:, 0] // 32) * 8 + level[:, 1] // 32, minlength=64).view(8, 8) / n
    assert (found - expected).abs().max() < 5 * (0.25 / n) ** 0.5


def test_mixture_temperature_zero_is_the_mean_of_the_likeliest_component() -> None:
    raw = torch.randn(4, logistic_mixture.outputs(1, 3))
    first, second = (logistic_mixture.draw(raw, 1, SampleGenerator(seed, 4), 0.0) for seed in (0, 1))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["pixelcnn", "image-gpt"])
def test_bits_go_down_on_digits(kind: str, digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    space = ImageSpace(1, 8, 8)
    model = PixelCNN(space, width=8, layers=3) if kind == "pixelcnn" else ImageGPT(space, width=32, depth=1, patch=2)
    before = float(model.eval().nll(digits).mean()) / (64 * math.log(2))
    train(model, digits, 40)
    assert float(model.nll(digits).mean()) / (64 * math.log(2)) < before - 0.4


def test_default_patch_leaves_an_eight_by_eight_grid() -> None:
    sides = {8: 1, 16: 2, 28: 2, 32: 4, 64: 8, 7: 1}
    assert {side: default_patch(ImageSpace(1, side, side)) for side in sides} == sides


def test_wrong_options() -> None:
    space = ImageSpace(1, 8, 8)
    for kind, wrong in ((PixelCNN, {"layers": 0}), (PixelCNN, {"learning_rate": 0.0}), (ImageGPT, {"local": 0})):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            kind(space, **wrong)
    with pytest.raises(BenchError, match="multiple of heads"):
        ImageGPT(space, width=30)
    with pytest.raises(BenchError, match="patch must divide"):
        ImageGPT(space, patch=3)
