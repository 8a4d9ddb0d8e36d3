"""Flow matching: exact cases, times, and all modes of a ring."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.flow_matching import FlowMatching, optimal_assignment
from reference_models.samplers import ODE_SAMPLERS, uniform_times


@pytest.mark.parametrize("sampler", sorted(ODE_SAMPLERS))
def test_gaussian_data_is_reached_along_the_exact_velocity(sampler: str) -> None:
    """For data N(0, s^2), E[data - noise | x_t] = x (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2), which maps x to s x."""
    s = 0.5

    def velocity(x: Tensor, t: float) -> Tensor:
        return x * (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2)

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    out = ODE_SAMPLERS[sampler](velocity, x, uniform_times(0.0, 1.0, 400))
    torch.testing.assert_close(out, s * x, atol=0.01, rtol=0)


@pytest.mark.parametrize("config", [{}, {"coupling": "optimal", "prediction": "data"}])
def test_recovers_all_modes_of_a_ring(config: dict, ring: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = FlowMatching(VectorSpace(2), **config)
    train(model, ring, 1000, batch_size=256)
    with torch.inference_mode():
        x = model.sample(2000, SampleGenerator(0, 2000))
    angle = torch.arange(8) * (torch.pi / 4)
    distance, mode = torch.cdist(x, 1.4 * torch.stack([angle.cos(), angle.sin()], 1)).min(1)
    good = distance < 4 * 0.07
    assert good.float().mean() > 0.85
    share = mode[good].bincount(minlength=8) / len(x)
    assert share.min() > 0.05  # each mode has 1/8


def test_overfits_one_batch_of_digits(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = FlowMatching(ImageSpace(1, 8, 8), width=8, multipliers=[1, 2])
    losses = [float(model.train_step(Batch(digits[:32]), step / 150)["loss"]) for step in range(150)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_evaluations_and_options() -> None:
    assert FlowMatching(VectorSpace(2), steps=10, sampler="euler").nfe == 10
    assert FlowMatching(VectorSpace(2), steps=10, sampler="heun").nfe == 20
    model = FlowMatching(VectorSpace(2)).eval()
    with torch.inference_mode():
        assert model.sample(3, SampleGenerator(0, 3), steps=2, sampler="midpoint").shape == (3, 2)
    for wrong in (
        {"steps": 0},
        {"sampler": "rk4"},
        {"times": "beta"},
        {"coupling": "ot"},
        {"prediction": "x"},
        {"learning_rate": 0.0},
        {"blocks": 0},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            FlowMatching(VectorSpace(2), **wrong)
    with pytest.raises(BenchError, match="multipliers"):
        FlowMatching(VectorSpace(2), multipliers=[1, 2])


def test_coupling_is_the_cheapest_permutation() -> None:
    torch.manual_seed(0)
    data, noise = torch.randn(5, 3), torch.randn(5, 3)
    found = optimal_assignment(data, noise)
    costs = {p: float((data - noise[list(p)]).square().sum()) for p in itertools.permutations(range(5))}
    assert tuple(found.tolist()) == min(costs, key=costs.__getitem__)


@pytest.mark.parametrize("sampler", [*ODE_SAMPLERS, "adaptive"])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_a_perfect_network_leaves_no_noise(digits: Tensor, sampler: str, steps: int) -> None:
    """Predicted data is where the last step ends, whatever the solver before it."""
    model = FlowMatching(ImageSpace(1, 8, 8), width=8, prediction="data", sampler=sampler, steps=steps).eval()
    times = []

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t.max()))
        return digits[: len(x)]

    model.network = torch.nn.Module()
    model.network.forward = perfect
    with torch.inference_mode():
        torch.testing.assert_close(model.sample(4, SampleGenerator(0, 4)), digits[:4])
    assert len(times) == model.nfe
    assert max(times) < 1


def test_adaptive_sampling_reports_its_evaluations() -> None:
    model = FlowMatching(VectorSpace(2), sampler="adaptive").eval()
    calls = 0

    def called(*_: object) -> None:
        nonlocal calls
        calls += 1

    model.network.register_forward_pre_hook(called)
    with torch.inference_mode():
        model.sample(3, SampleGenerator(0, 3))
    assert model.nfe == calls
    assert calls % 3 == 1  # three a step, and one before the first
