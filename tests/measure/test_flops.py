"""Counted FLOPs are what one counts by hand; what is not counted is named."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.measure.flops import count, count_training


def forward_and_backward(module, *inputs):
    def work():
        out = module(*inputs)
        (out[0] if isinstance(out, tuple) else out).sum().backward()

    return work


def test_linear_forward_and_training():
    layer, x = nn.Linear(30, 20), torch.randn(7, 30, requires_grad=True)
    with torch.no_grad():
        assert count(lambda: layer(x)).flops == 2 * 7 * 30 * 20
    # forward, gradient of the input, gradient of the weight: the same product three times
    assert count(forward_and_backward(layer, x)).flops == 3 * 2 * 7 * 30 * 20


def test_convolution():
    layer, x = nn.Conv2d(3, 8, 5, stride=2, padding=2), torch.randn(4, 3, 16, 16)
    forward = 2 * 4 * 8 * 8 * 8 * 3 * 5 * 5
    with torch.no_grad():
        assert count(lambda: layer(x)).flops == forward
    assert count(forward_and_backward(layer, x)).flops == 2 * forward, "images need no gradient"


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_grouped_convolution(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, x = kind(8, 8, 3, padding=1, groups=groups), torch.randn(4, 8, 16, 16, requires_grad=True)
    forward = 2 * 4 * 16 * 16 * 8 * (8 // groups) * 3 * 3
    with torch.no_grad():
        assert count(lambda: layer(x)).flops == forward
    assert count(forward_and_backward(layer, x)).flops == 3 * forward


@pytest.mark.parametrize("training", [False, True])
def test_layers_of_attention_count_the_same_in_eval_mode(training):
    """In eval mode torch takes one fused operator for all of it, which has no formula."""
    batch, length, width, inner = 3, 7, 16, 32
    layer = nn.TransformerEncoderLayer(width, 2, inner, dropout=0.0, batch_first=True).train(training)
    x = torch.randn(batch, length, width)
    with torch.no_grad():
        found = count(lambda: layer(x))
    projections = 2 * batch * length * width * 4 * width
    assert found.flops == projections + 2 * (2 * batch * length * length * width) + 2 * (
        2 * batch * length * width * inner
    )
    assert found.unknown == {}
    assert torch.backends.mha.get_fastpath_enabled()


def test_steps_of_a_training_that_differ_are_counted_in_their_shares():
    """A penalty at every 16th step, and a layer that joins for the second half: both at once."""
    x, product = torch.randn(5, 10), 2 * 5 * 10 * 10
    model = nn.Linear(10, 10, bias=False)
    model.steps = 0

    def training(lazy, growing):
        def step(copied, progress):
            for _ in range(1 + (lazy and copied.steps % 16 == 0) + (growing and progress > 0.5)):
                with torch.no_grad():
                    copied(x)
            copied.steps += 1

        found, steps = count_training(model, step)
        assert model.steps == 0, "copies are trained"
        return found.flops / steps, steps

    assert training(False, False) == (product, 1)
    assert training(True, False) == (product * (1 + 1 / 16), 16)
    assert training(False, True) == (product * 1.5, 16)
    assert training(True, True) == (product * (1.5 + 1 / 16), 16)


@pytest.mark.parametrize("mode", ["fused", "written out"])
def test_attention(mode):
    batch, heads, length, width = 2, 3, 17, 8
    q, k, v = (torch.randn(batch, heads, length, width, requires_grad=True) for _ in range(3))

    def written_out(q, k, v):
        return (q @ k.transpose(-1, -2) / width**0.5).softmax(-1) @ v

    attend = F.scaled_dot_product_attention if mode == "fused" else written_out
    product = 2 * batch * heads * length * length * width
    with torch.no_grad():
        assert count(lambda: attend(q, k, v)).flops == 2 * product
    # fused: scores are computed once more in the backward pass
    assert count(lambda: attend(q, k, v).sum().backward()).flops == (7 if mode == "fused" else 6) * product


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers(kind, gates, layers):
    batch, steps, inputs, hidden = 3, 5, 6, 10
    network, x = kind(inputs, hidden, layers, batch_first=True), torch.randn(batch, steps, inputs)
    widths = [inputs] + [hidden] * (layers - 1)
    with torch.no_grad():
        found = count(lambda: network(x))
    assert found.flops == sum(2 * batch * steps * gates * hidden * (width + hidden) for width in widths)
    assert not found.unknown


def test_lstm_training_is_three_forward_passes():
    network, x = nn.LSTM(6, 10), torch.randn(5, 3, 6, requires_grad=True)
    assert count(forward_and_backward(network, x)).flops == 3 * 2 * 5 * 3 * 4 * 10 * (6 + 10)


def test_fourier_transforms():
    x = torch.randn(6, 16, 32)
    assert count(lambda: torch.fft.fft(x.to(torch.complex64))).flops == 6 * 16 * 5 * 32 * math.log2(32)
    assert count(lambda: torch.fft.rfft2(x)).flops == 6 * 2.5 * 512 * math.log2(512)
    spectrum = torch.fft.rfft(x)
    assert count(lambda: torch.fft.irfft(spectrum)).flops == 6 * 16 * 2.5 * 32 * math.log2(32)


class TinyUNet(nn.Module):
    """Down, attention in the middle, up with a skip connection: every product can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.qkv = nn.Linear(16, 48)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        skip = F.silu(self.first(x))
        h = self.norm(self.down(skip))
        tokens = h.flatten(2).transpose(1, 2)
        q, k, v = (part.unsqueeze(1) for part in self.qkv(tokens).chunk(3, -1))
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(h.shape)
        return self.last(torch.cat([self.up(h), skip], 1))


def test_u_net():
    batch, side, half = 2, 16, 8
    network, x = TinyUNet(), torch.randn(batch, 1, side, side)
    first = 2 * batch * side**2 * 8 * 1 * 9
    parts = [
        2 * batch * half**2 * 16 * 8 * 9,  # down
        2 * batch * half**2 * 16 * 48,  # qkv
        2 * batch * half**2 * 16 * 8 * 4,  # up: every input position writes 2 x 2 outputs
        2 * batch * side**2 * 1 * 16 * 9,  # last
    ]
    product = 2 * batch * half**4 * 16
    with torch.no_grad():
        assert count(lambda: network(x)).flops == first + sum(parts) + 2 * product
    trained = count(lambda: network(x).sum().backward())
    assert trained.flops == 2 * first + 3 * sum(parts) + 7 * product
    assert not trained.unknown
    assert 0.9 < trained.coverage < 1


def test_what_has_no_formula_is_named_and_lowers_the_coverage():
    x = torch.randn(50, 50)
    found = count(lambda: torch.linalg.eigh(x @ x.T))
    assert found.flops == 2 * 50**3
    assert set(found.unknown) == {"aten._linalg_eigh"}
    assert found.unknown["aten._linalg_eigh"] == 1
    assert "aten._linalg_eigh" in found.note
    # one FLOP for each of the 50 + 2500 numbers that come out
    assert found.coverage == pytest.approx(2 * 50**3 / (2 * 50**3 + 2550))
    light = count(lambda: torch.exp(x) + torch.randn(50))
    assert light.flops == light.coverage == 0
    assert light.note is None
    assert light.light == {"aten.exp": 1, "aten.randn": 1, "aten.add": 1}


def test_optimizers_and_inference_mode_are_counted_through():
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(layer.parameters())
    x = torch.randn(2, 4)

    def step():
        optimizer.zero_grad()
        layer(x).sum().backward()
        optimizer.step()

    assert count(step).flops == 2 * 2 * 2 * 4 * 4
    with torch.inference_mode():
        assert count(lambda: layer(x)).flops == 2 * 2 * 4 * 4


def test_a_gradient_penalty_is_counted():
    """Gradients of gradients through a module: y = W2 W1 x, its gradient by x, and the gradient of that by the weights."""
    width, batch = 12, 5
    net = nn.Sequential(nn.Linear(9, width, bias=False), nn.Linear(width, 1, bias=False))
    x = torch.randn(batch, 9)

    def work():
        at = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
        gradient.square().sum().backward()

    first, second = 2 * batch * 9 * width, 2 * batch * width
    # forward: both; gradient by x: both; backward of that gradient: each product twice (by the weight and by its other factor), but
    # the last layer's, whose other factor is a constant
    assert count(work).flops == 2 * (first + second) + 2 * first + second
