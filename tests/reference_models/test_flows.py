"""Normalizing flows: inverses, log determinants against autograd, and densities that integrate to one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.data.mixtures import Grid25, Ring8
from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.glow import Glow
from reference_models.networks.invertible import (
    ActNorm,
    Affine,
    Coupling,
    Mixing,
    Spline,
    alternating,
    checkerboard,
    conv_net,
    dense_net,
    halves,
)
from reference_models.networks.spline import parameters_per_value, rational_quadratic
from reference_models.normalizing_flow import NormalizingFlow, dequantised, quantisable
from reference_models.realnvp import RealNVP
from reference_models.spline_flow import SplineFlow

FLOWS = [RealNVP, Glow, SplineFlow]


def shaken(module: torch.nn.Module, by: float = 0.1) -> torch.nn.Module:
    """The module with random weights everywhere, so that nothing is the identity any more."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module.eval()


def log_det_by_autograd(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of ``function`` at each row of x, one example at a time."""
    return torch.stack(
        [torch.linalg.slogdet(_square(torch.autograd.functional.jacobian(function, row[None])))[1] for row in x]
    )


def _square(jacobian: Tensor) -> Tensor:
    size = math.isqrt(jacobian.numel())
    return jacobian.reshape(size, size)


LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "mixing": lambda: Mixing(4),
    "affine": lambda: Coupling(checkerboard(4, 1), conv_net(2, 4, 8), Affine()),
    "spline": lambda: Coupling(halves(4, 1), conv_net(2, 2 * parameters_per_value(5), 8), Spline(5, 3.0)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_invert_and_know_their_determinant(name: str) -> None:
    layer = shaken(LAYERS[name](), 0.3).double()  # where a spline is nearly flat, float32 loses digits on the way back
    x = torch.randn(3, 4, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        y, log_det = layer(x)
        torch.testing.assert_close(layer.inverse(y), x, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(log_det, log_det_by_autograd(lambda v: layer(v)[0], x), atol=1e-8, rtol=1e-8)


def test_vector_couplings_with_odd_sizes() -> None:
    for parity in (0, 1):
        mask = alternating(5, parity)
        layer = shaken(Coupling(mask, dense_net(sum(mask), 2 * (5 - sum(mask)), 16), Affine()))
        x = torch.randn(4, 5)
        with torch.no_grad():
            y, log_det = layer(x)
            torch.testing.assert_close(layer.inverse(y), x, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            log_det, log_det_by_autograd(lambda v, layer=layer: layer(v)[0], x), atol=1e-4, rtol=1e-4
        )
        assert torch.equal(y[:, mask], x[:, mask])


def test_actnorm_standardises_the_first_batch() -> None:
    layer = ActNorm(3)
    y = layer.initialise(5 + 7 * torch.randn(64, 3, 4, 4))
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)


def test_mixing_starts_as_a_rotation() -> None:
    layer = Mixing(6)
    x = torch.randn(10, 6)
    y, log_det = layer(x)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, torch.zeros(10), atol=1e-4, rtol=0)


def test_spline_is_the_identity_at_zero_and_outside() -> None:
    x = torch.linspace(-6, 6, 101)
    zeros = torch.zeros(101, parameters_per_value(7))
    y, log_slope = rational_quadratic(x, zeros, 3.0)
    torch.testing.assert_close(y, x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_slope, torch.zeros(101), atol=1e-4, rtol=0)
    wild = torch.randn(101, parameters_per_value(7))
    y, log_slope = rational_quadratic(x, wild, 3.0)
    outside = x.abs() > 3
    assert torch.equal(y[outside], x[outside])
    assert log_slope[outside].abs().max() == 0


def test_spline_rises_inverts_and_has_the_derivative_of_autograd() -> None:
    raw = 2 * torch.randn(1, parameters_per_value(8), dtype=torch.float64).expand(2000, -1)
    x = torch.linspace(-3, 3, 2000, dtype=torch.float64, requires_grad=True)
    y, log_slope = rational_quadratic(x, raw, 3.0)
    assert (y.diff() > 0).all()
    slope = torch.autograd.grad(y.sum(), x)[0]
    torch.testing.assert_close(slope.log()[1:-1], log_slope[1:-1])
    back, log_back = rational_quadratic(y, raw, 3.0, inverse=True)
    torch.testing.assert_close(back, x, atol=1e-7, rtol=0)
    torch.testing.assert_close(log_back[1:-1], -log_slope[1:-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("space", [ImageSpace(1, 8, 8), ImageSpace(3, 16, 8), VectorSpace(2), VectorSpace(5)], ids=str)
def test_models_invert(kind: type[NormalizingFlow], space: ImageSpace | VectorSpace) -> None:
    torch.manual_seed(0)
    model = shaken(kind(space, width=16), 0.03)
    x = (
        torch.randint(256, (8, *space.shape)) / 127.5 - 1
        if isinstance(space, ImageSpace)
        else torch.randn(8, *space.shape)
    )
    with torch.inference_mode():
        z = model.encode(x)
        assert z.shape == (8, space.dimensions)
        torch.testing.assert_close(model.decode(z), x, atol=1e-4, rtol=0)
        code = torch.randn(8, space.dimensions)
        y = model.network.inverse(code)
        torch.testing.assert_close(model.network(y)[0], code, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", FLOWS)
def test_log_density_of_images_against_autograd(kind: type[NormalizingFlow]) -> None:
    torch.manual_seed(0)
    model = shaken(kind(ImageSpace(1, 8, 8), width=8), 0.03)
    y = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        log_det = model.network(y)[1]
    torch.testing.assert_close(log_det, log_det_by_autograd(lambda v: model.network(v)[0], y), atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("kind", FLOWS)
def test_density_of_vectors_integrates_to_one(kind: type[NormalizingFlow]) -> None:
    torch.manual_seed(0)
    model = shaken(kind(VectorSpace(2), width=16, layers=4), 0.1)
    side = torch.linspace(-8, 8, 400)
    grid = torch.cartesian_prod(side, side)
    mass = (-model.nll(grid)).double().exp().sum() * float(side[1] - side[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=0.02)
    assert model.nll_kind == "exact"


def test_dequantisation_and_back() -> None:
    x = torch.arange(256).float().view(1, 1, 16, 16) / 127.5 - 1
    for noise in (0.001, 0.5, 0.999):
        y, _ = dequantised(x, torch.full_like(x, noise))
        assert torch.equal((quantisable(y) * 127.5 + 127.5).round(), (x * 127.5 + 127.5).round())
    rows = torch.rand(3, 1, 2, 2) * 0.9 + 0.05
    level = torch.randint(256, (3, 1, 2, 2)) / 127.5 - 1
    expected = log_det_by_autograd(lambda u: dequantised(level[:1], u)[0], rows[:1])
    torch.testing.assert_close(dequantised(level[:1], rows[:1])[1], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", FLOWS)
def test_images_are_bounded_from_above(kind: type[NormalizingFlow]) -> None:
    """Uniform noise has 8 bits a dimension: no model can promise less on it, an untrained one gives somewhat more."""
    torch.manual_seed(0)
    model = kind(ImageSpace(1, 8, 8), width=8)
    x = torch.randint(256, (256, 1, 8, 8)) / 127.5 - 1
    for _ in range(3):
        model.train_step(Batch(x), 0.9)
    bits = model.eval().nll(x) / (64 * math.log(2))
    assert model.nll_kind == "upper_bound"
    assert 8 <= bits.mean() < 8.6
    assert torch.equal(model.nll(x), model.nll(x))
    torch.testing.assert_close(model.nll(x[3:5]), model.nll(x)[3:5], atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("kind", FLOWS)
def test_flows_learn_digits(kind: type[NormalizingFlow], digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = kind(ImageSpace(1, 8, 8), width=16)
    train(model, digits, 60)
    assert model.nll(digits).mean() / (64 * math.log(2)) < 7


@pytest.mark.parametrize("kind", FLOWS)
def test_temperature_narrows_the_samples(kind: type[NormalizingFlow]) -> None:
    one_gaussian = {"components": 1} if "components" in kind.make_config().__dataclass_fields__ else {}
    model = kind(VectorSpace(2), width=8, **one_gaussian).eval()
    wide, narrow = (model.sample(500, SampleGenerator(0, 500), temperature=t) for t in (1.0, 0.25))
    torch.testing.assert_close(narrow.std(0), wide.std(0) / 4, atol=1e-3, rtol=1e-3)


def test_wrong_options_and_spaces() -> None:
    for kind, wrong in (
        (RealNVP, {"layers": 0}),
        (Glow, {"width": 0}),
        (SplineFlow, {"bins": 1}),
        (SplineFlow, {"bound": 0.0}),
        (SplineFlow, {"learning_rate": -1.0}),
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            kind(VectorSpace(2), **wrong)
    for kind in FLOWS:
        with pytest.raises(BenchError, match="even sides"):
            kind(ImageSpace(1, 7, 7))
        with pytest.raises(BenchError, match="splits each vector"):
            kind(VectorSpace(1))


@pytest.mark.parametrize("dataset", [Ring8, Grid25])
@pytest.mark.parametrize(
    ("kind", "steps", "options"),
    [
        (RealNVP, 100, {"layers": 4, "width": 32}),
        (Glow, 100, {"layers": 4, "width": 32}),
        (SplineFlow, 500, {"layers": 2, "width": 64, "learning_rate": 5e-3}),
    ],
)
def test_known_entropy_is_reached_within_five_percent(
    kind: type[NormalizingFlow], dataset: type, steps: int, options: dict, train: Callable
) -> None:
    data = dataset().load()
    torch.manual_seed(0)
    model = kind(VectorSpace(2), **options)
    train(model, torch.as_tensor(data.train), steps, batch_size=256)
    entropy = data.truth.entropy
    assert float(model.nll(torch.as_tensor(data.test)).mean()) == pytest.approx(entropy, rel=0.05)


@pytest.mark.parametrize("model_class", [RealNVP, Glow, SplineFlow])
def test_a_first_batch_of_one_trains(model_class: type[NormalizingFlow]) -> None:
    """One value has no spread to be normalised by."""
    torch.manual_seed(0)
    model = model_class(VectorSpace(2)).train()
    for step in range(5):
        losses = model.train_step(Batch(torch.randn(1, 2)), step / 5)
        assert torch.isfinite(torch.as_tensor(losses["nll"]))
