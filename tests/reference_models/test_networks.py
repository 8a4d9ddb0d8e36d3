"""Shared networks: shapes at every resolution, what they begin as, and wrong sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.model import BenchError, ImageSpace, VectorSpace
from reference_models.networks.build import (
    DenoiserConfig,
    decoder,
    default_multipliers,
    default_patch,
    denoiser,
    encoder,
)
from reference_models.networks.conv import halvings
from reference_models.networks.embedding import Conditioning, Fourier
from reference_models.networks.unet import Attention, UNet, fold, unfold

SPACES = [
    ImageSpace(1, 8, 8),
    ImageSpace(3, 16, 16),
    ImageSpace(1, 28, 28),
    ImageSpace(3, 32, 32),
    ImageSpace(3, 64, 64),
    ImageSpace(3, 12, 20),
    ImageSpace(1, 7, 9),
    VectorSpace(2),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_denoisers_keep_the_shape_and_begin_at_zero(space: ImageSpace | VectorSpace) -> None:
    network = denoiser(space, DenoiserConfig(width=8))
    out = network(torch.randn(3, *space.shape), torch.rand(3))
    assert out.shape == (3, *space.shape)
    assert (out == 0).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_encoder_and_decoder_shapes(space: ImageSpace | VectorSpace) -> None:
    code = encoder(space, 5, 8)(torch.randn(3, *space.shape))
    assert code.shape == (3, 5)
    assert decoder(space, 5, 8)(code).shape == (3, *space.shape)
    assert decoder(space, 5, 8, batch_norm=True)(code).shape == (3, *space.shape)


def test_defaults_follow_the_resolution() -> None:
    found = {
        side: (default_patch(space), default_multipliers(space, default_patch(space)))
        for side in (7, 8, 16, 28, 32, 64, 128)
        for space in [ImageSpace(3, side, side)]
    }
    assert found == {
        7: (1, (1,)),
        8: (1, (1,)),
        16: (2, (1,)),
        28: (2, (1,)),
        32: (2, (1,)),
        64: (4, (1,)),
        128: (4, (1, 2)),
    }
    assert default_multipliers(ImageSpace(3, 32, 32), 2, coarsest=2) == (1, 2, 4, 4)
    assert [halvings(ImageSpace(1, side, side)) for side in (4, 7, 8, 16, 28, 32, 64)] == [0, 0, 1, 2, 2, 3, 4]


def test_all_parameters_learn() -> None:
    """After two steps (the zero layers hide the rest at first) every parameter has a gradient that is not zero."""
    torch.manual_seed(0)
    network = UNet(1, (8, 8), width=8, multipliers=(1, 2), attention=(4,), classes=3)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        x = torch.randn(16, 1, 8, 8)
        labels = torch.arange(16) % 4
        optimizer.zero_grad()
        (network(x, torch.rand(16), labels) - x.roll(1, 2)).square().mean().backward()
        optimizer.step()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_what_is_linear_in_the_input_passes_by_the_network() -> None:
    """With the last convolution at zero the output is a mix of the input's channels, another one at another time."""
    torch.manual_seed(0)
    network = UNet(2, (8, 8), width=8, multipliers=(1,), out_channels=3, extra_channels=1)
    nn.init.normal_(network.bypass.weight)
    x, image, t, level = torch.randn(4, 2, 8, 8), torch.randn(4, 1, 8, 8), torch.rand(4), torch.zeros(4)
    out = network(x, t, image=image, level=level)
    whole = torch.cat([x, image], 1).flatten(2)
    mixes = [torch.linalg.lstsq(a.T, b.flatten(1).T).solution.T for a, b in zip(whole, out.detach(), strict=True)]
    for mix, a, b in zip(mixes, whole, out, strict=True):
        torch.testing.assert_close((mix @ a).view(3, 8, 8), b, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mixes[0], mixes[1], atol=1e-3)


def test_time_and_label_matter() -> None:
    torch.manual_seed(0)
    network = UNet(2, (8, 8), width=8, multipliers=(1, 2), classes=3, out_channels=5)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 2, 8, 8)
    out = network(x, torch.tensor([0.2]), torch.tensor([1]))
    assert out.shape == (1, 5, 8, 8)
    assert not torch.allclose(out, network(x, torch.tensor([0.7]), torch.tensor([1])))
    assert not torch.allclose(out, network(x, torch.tensor([0.2]), torch.tensor([2])))
    without = network(x, torch.tensor([0.2]))
    torch.testing.assert_close(
        without, network(x, torch.tensor([0.2]), torch.tensor([3]))
    )  # 3 of 3 classes: none given


def test_conditioning_tells_near_times_apart() -> None:
    features = Fourier(32)(torch.tensor([0.0, 0.001, 0.5, 1.0]))
    assert features.shape == (4, 32)
    assert torch.cdist(features, features)[~torch.eye(4, dtype=torch.bool)].min() > 0.3
    assert Conditioning(24)(torch.rand(5)).shape == (5, 24)


def test_fold_and_unfold_are_inverses() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert fold(x, 4).shape == (2, 48, 2, 3)
    assert torch.equal(unfold(fold(x, 4), 4), x)
    assert fold(x, 1) is x


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(BenchError, match="multiples of 8"):
        UNet(1, (28, 28), patch=2, multipliers=(1, 2, 4))


def test_context_and_image_matter_and_padding_does_not() -> None:
    torch.manual_seed(0)
    network = UNet(1, (8, 8), width=8, multipliers=(1, 2), attention=(4,), extra_channels=2, context=6)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, t, image, context = torch.randn(2, 1, 8, 8), torch.rand(2), torch.randn(2, 2, 8, 8), torch.randn(2, 5, 6)
    mask = torch.arange(5).expand(2, 5) < 3
    given = {"image": image, "level": torch.zeros(2), "context": context, "mask": mask}
    out = network(x, t, **given)
    assert out.shape == x.shape
    for name, other in (("image", -image), ("level", torch.ones(2)), ("context", -context)):
        assert not torch.allclose(out, network(x, t, **{**given, name: other}), atol=1e-4)
    padded = context.clone()
    padded[:, 3:] = 7
    torch.testing.assert_close(out, network(x, t, **{**given, "context": padded}))


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (16, 1), (48, 3), (120, 6), (184, 8)])
def test_attention_splits_any_width_into_heads(channels, heads):
    attention = Attention(channels)
    assert attention.heads == heads
    x = torch.randn(2, channels, 4, 4)
    assert torch.equal(attention(x), x), "it begins as the identity"
