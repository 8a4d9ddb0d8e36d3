"""The layers that the grown GANs share, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reference_models.networks.equalised import Blur, EqualisedConv2d, EqualisedLinear, MinibatchStd, PixelNorm


def test_equalised_layers_are_ordinary_layers_with_scaled_weights() -> None:
    torch.manual_seed(0)
    linear = EqualisedLinear(200, 300, multiplier=0.01, bias=2.0)
    x = torch.randn(50, 200)
    torch.testing.assert_close(linear(x), x @ linear.weight.T * 0.01 / math.sqrt(200) + 2)
    assert float(linear.weight.detach().std()) == pytest.approx(100, rel=0.02), "N(0, 1) / multiplier"
    assert float(linear(x).std()) == pytest.approx(1, abs=0.05), "what goes in with unit variance comes out with it"
    conv = EqualisedConv2d(8, 64, 3)
    x = torch.randn(4, 8, 20, 20)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight / math.sqrt(8 * 9), padding=1))
    assert float(conv.weight.std()) == pytest.approx(1, abs=0.05)


def test_equalised_rates_move_small_and_large_layers_alike() -> None:
    """One step of Adam changes every stored weight by its rate; what is used changes by that times 1 / sqrt(inputs)."""
    moved = {}
    for inputs in (4, 400):
        layer = EqualisedLinear(inputs, 3)
        before = (layer.weight * layer.scale).detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        layer(torch.randn(16, inputs)).sum().backward()
        optimizer.step()
        moved[inputs] = float(((layer.weight * layer.scale).detach() - before).abs().mean()) * math.sqrt(inputs)
    assert moved[4] == pytest.approx(0.01, rel=1e-3)
    assert moved[400] == pytest.approx(0.01, rel=1e-3)


def test_pixel_norm_gives_unit_mean_square_and_keeps_directions() -> None:
    x = 5 * torch.randn(3, 7, 4, 4)
    y = PixelNorm()(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(3, 4, 4))
    torch.testing.assert_close(F.cosine_similarity(x, y, dim=1), torch.ones(3, 4, 4))
    assert PixelNorm()(torch.zeros(1, 3)).isfinite().all()


def test_minibatch_std_is_the_mean_deviation_of_each_group() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 2)
    x[4:] = x[4]  # the second group repeats itself
    y = MinibatchStd(4)(x)
    assert y.shape == (8, 4, 2, 2)
    assert torch.equal(y[:, :3], x)
    torch.testing.assert_close(y[:4, 3], x[:4].std(0, correction=0).mean().expand(4, 2, 2), rtol=1e-4, atol=1e-5)
    assert y[4:, 3].abs().max() < 1e-3
    assert MinibatchStd(4)(torch.randn(6, 5)).shape == (6, 6)
    assert MinibatchStd(4)(torch.randn(7, 5)).shape == (7, 6)


def test_blur_keeps_flat_areas_and_halves() -> None:
    x = torch.ones(1, 2, 9, 9)
    torch.testing.assert_close(Blur()(x)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 6, 6))
    torch.testing.assert_close(Blur(gain=4.0)(x)[:, :, 1:-1, 1:-1], 4 * torch.ones(1, 2, 6, 6))
    assert Blur(stride=2)(torch.ones(1, 2, 8, 8)).shape == (1, 2, 4, 4)
    wave = (-1.0) ** torch.arange(8)
    assert Blur()(wave.expand(1, 1, 8, 8))[:, :, 1:-1, 1:-1].abs().max() < 1e-6, "the finest stripes vanish"


def test_doubling_by_transposed_convolution_and_blur_is_bilinear_for_a_point() -> None:
    """With a kernel that is a point, StyleGAN2's doubling is the linear interpolation of the pixels."""
    x = torch.randn(1, 1, 6, 6)
    point = torch.zeros(1, 1, 3, 3)
    point[0, 0, 1, 1] = 1.0
    doubled = Blur(gain=4.0)(F.conv_transpose2d(x, point, stride=2))
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(doubled[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])
