"""StyleGAN2: modulation, path lengths, truncation, the style space."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.base import Data
from bench.metrics.base import Evidence
from bench.metrics.latent import StylePaths, perceptual_path_length
from bench.model import Batch, BenchError, ImageSpace, SampleGenerator
from bench.scoring import missing
from reference_models.stylegan2 import ModulatedConv2d, StyleGAN2, energy_of, path_lengths

SPACE = ImageSpace(1, 8, 8)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_one_convolution_an_example(demodulate: bool, double: bool) -> None:
    """Against equations 1 and 3, with the weights of each example written out."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 4, 7, demodulate=demodulate, double=double)
    x, w = torch.randn(3, 5, 6, 6), 2 * torch.randn(3, 7)
    found, style = layer(x, w), layer.style(w)
    for i in range(3):
        weight = layer.weight / math.sqrt(5 * 9) * style[i][None, :, None, None]
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if double:
            large = F.conv_transpose2d(x[i : i + 1], weight.transpose(0, 1), stride=2)
            expected = layer.blur(large)  # type: ignore[misc]
        else:
            expected = F.conv2d(x[i : i + 1], weight, padding=1)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-5)
    assert found.shape == ((3, 4, 12, 12) if double else (3, 4, 6, 6))


def test_demodulation_undoes_the_size_of_a_style() -> None:
    layer = ModulatedConv2d(5, 4, 7)
    torch.nn.init.zeros_(layer.style.bias)
    x, w = torch.randn(2, 5, 6, 6), torch.randn(2, 7)
    torch.testing.assert_close(layer(x, w), layer(x, 10 * w), rtol=1e-3, atol=1e-4)


def test_demodulation_is_in_float32_under_autocast() -> None:
    style, weight = torch.randn(2, 512), torch.randn(4, 512, 3, 3)
    modulated = (weight * style[:, None, :, None, None]).double()
    with torch.autocast("cpu", torch.bfloat16):
        found = energy_of(style, weight)
    torch.testing.assert_close(found.double(), modulated.square().sum((2, 3, 4)), rtol=1e-5, atol=0)


def test_path_lengths_of_a_linear_map() -> None:
    """images = A w: the Jacobian is A, so the length is |A^T y| / sqrt(H W); its mean square is |A|^2 / (H W)."""
    torch.manual_seed(0)
    a = torch.randn(3 * 4 * 6, 5)
    w = torch.randn(4000, 5, requires_grad=True)
    y = torch.randn(4000, 3, 4, 6)
    lengths = path_lengths((w @ a.T).view(-1, 3, 4, 6), w, y)
    torch.testing.assert_close(lengths, (y.flatten(1) @ a).norm(dim=1) / math.sqrt(24))
    assert float(lengths.square().mean()) == pytest.approx(float(a.square().sum()) / 24, rel=0.05)


def test_the_path_penalty_draws_lengths_to_their_mean() -> None:
    """Descending it alone lessens the squared deviation of path lengths from the running mean, on styles not trained on."""
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8, latent=8)
    optimizer = torch.optim.Adam(model.synthesis.parameters(), 3e-3)

    def lengths() -> Tensor:
        torch.manual_seed(1)
        w = model.mapping(torch.randn(200, 8))
        images = model.synthesise(w)
        return path_lengths(images, w, torch.randn_like(images)).detach()

    mean = lengths().mean()
    before = (lengths() - mean).square().mean()
    model.mean_path.copy_(mean)
    model.steps = 10_000  # far into a training: the running mean moves slowly
    for _ in range(40):
        optimizer.zero_grad()
        model.path_penalty(32).backward()
        optimizer.step()
    assert (model.mean_path - mean).abs() < 0.3 * mean
    assert (lengths() - mean).square().mean() < 0.8 * before


def test_truncation_moves_styles_to_their_mean(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8)
    train(model, digits, 12, batch_size=16)
    z = torch.randn(64, 64)
    with torch.inference_mode():
        w = model.style(z)
        torch.testing.assert_close(w, model.mapping(z))
        torch.testing.assert_close(model.style(z, 0.0), model.mean_style.expand(64, -1))
        torch.testing.assert_close(model.style(z, 0.5), (w + model.mean_style) / 2)
        spread = [
            float(model.sample(64, SampleGenerator(0, 64), truncation=psi).std(0).mean()) for psi in (0.0, 0.5, 1.0)
        ]
    assert spread[0] < spread[1] < spread[2]


def test_noise_matters_once_its_strength_is_learned(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8).eval()
    w = model.style(torch.randn(2, 64))
    noise = lambda height, width: torch.randn(2, 1, height, width)  # noqa: E731
    assert torch.equal(model.synthesise(w), model.synthesise(w, noise)), "strengths begin at zero"
    torch.nn.init.ones_(model.synthesis.refine[0].strength)
    assert not torch.allclose(model.synthesise(w), model.synthesise(w, noise))


def test_the_style_space_has_a_path_length() -> None:
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8).eval()
    measured = perceptual_path_length(
        model.synthesise,
        lambda count, generator: torch.randn(count, 64, generator=generator),
        n=64,
        epsilon=1e-2,
        mapping=model.style,
    )
    assert measured.name == "ppl_w_full_eps0.01_l2"
    assert 0 < measured < math.inf


def test_the_registered_path_length_is_that_of_the_style_space(digits: Tensor) -> None:
    """A generator whose images are linear in w has paths of known length: 2 |A|^2 trace(cov w) per pixel."""
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8, latent=8).eval()
    data = Data("none", SPACE, np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.uint8))
    evidence = Evidence(data=data, samples=data.test, features=None, model=model)  # type: ignore[arg-type]
    assert "style" not in missing(StylePaths.needs, evidence)
    a = torch.randn(8, 64)
    model.synthesise = lambda w, noise=None: (w @ a).view(-1, *SPACE.shape)  # type: ignore[method-assign]
    (measured,) = StylePaths(paths=4000).measure(evidence)
    w = model.style(torch.randn(40_000, 8))
    expected = 2 * ((w - w.mean(0)) @ a).square().sum(1).mean() / 64
    assert measured.name == "ppl_w_full_eps0.001_l2"
    assert float(measured) == pytest.approx(float(expected.detach()), rel=0.1)


def test_the_lazy_penalties_act_on_their_steps(digits: Tensor) -> None:
    """The first step has both; the running mean of path lengths moves on every eighth step only."""
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8, path_length=0.5)
    means = []
    for _ in range(9):
        model.train_step(Batch(digits[:8]), 0.0)
        means.append(float(model.mean_path))
    assert means[0] > 0
    assert len(set(means[:8])) == 1
    assert means[8] != means[7]


def test_moves_to_the_data(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = StyleGAN2(SPACE, width=8)
    before = (model.synthesise(model.style(torch.randn(100, 64))).mean(0) - digits.mean(0)).abs().mean()
    train(model, digits, 120, batch_size=32)
    with torch.inference_mode():
        x = model.sample(200, SampleGenerator(0, 200))
    assert (x.mean(0) - digits.mean(0)).abs().mean() < 0.5 * before.detach()
    assert x.std(0).mean() > 0.1


def test_wrong_options() -> None:
    for wrong in ({"mapping": 0}, {"truncation": 1.5}, {"r1": -1.0}, {"path_length": -1.0}, {"learning_rate": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            StyleGAN2(SPACE, **wrong)
