"""The diffusion model: schedules, the forward process and what the predictions mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.ddpm import DDPM, SCHEDULES, STEPS, cosine_schedule, linear_schedule


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_fall_from_one_to_almost_zero(name: str) -> None:
    alphas = SCHEDULES[name]()
    assert alphas.shape == (STEPS + 1,)
    assert alphas[0] == 1
    assert (alphas.diff() < 0).all()
    assert 0 < alphas[-1] < 1e-4
    betas = 1 - alphas[1:] / alphas[:-1]
    assert betas.max() <= 0.999 + 1e-12


def test_schedules_are_those_of_the_papers() -> None:
    linear, cosine = linear_schedule(), cosine_schedule()
    assert float(1 - linear[1]) == pytest.approx(1e-4)
    assert float(1 - linear[1000] / linear[999]) == pytest.approx(0.02)
    for t in (0.1, 0.5, 0.9):
        angle = [(u + 0.008) / 1.008 * math.pi / 2 for u in (t, 0.0)]
        assert float(cosine[round(t * STEPS)]) == pytest.approx(math.cos(angle[0]) ** 2 / math.cos(angle[1]) ** 2)


def test_forward_process_has_the_moments_of_q() -> None:
    model = DDPM(VectorSpace(2))
    torch.manual_seed(0)
    for index in (1, 300, 900):
        signal, noise = model.signal[index], model.noise[index]
        x = signal * torch.tensor([1.5, -0.5]) + noise * torch.randn(100_000, 2)
        alpha_bar = model.alpha_bar(index / STEPS)
        torch.testing.assert_close(x.mean(0), math.sqrt(alpha_bar) * torch.tensor([1.5, -0.5]), atol=0.02, rtol=0)
        torch.testing.assert_close(x.var(0), torch.full((2,), 1 - alpha_bar), atol=0.01, rtol=0.02)
        assert float(signal**2 + noise**2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_a_perfect_network_denoises_perfectly(prediction: str) -> None:
    """With the true target as its output, ``denoise`` gives back x0 and epsilon."""
    torch.manual_seed(0)
    model = DDPM(VectorSpace(3), prediction=prediction)
    x0, epsilon, t = torch.randn(4, 3), torch.randn(4, 3), 0.4
    a = model.alpha_bar(t)
    target = math.sqrt(a) * epsilon - math.sqrt(1 - a) * x0 if prediction == "v" else epsilon

    class Oracle(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return target

    model.network = Oracle()
    found = model.denoise(math.sqrt(a) * x0 + math.sqrt(1 - a) * epsilon, t)
    torch.testing.assert_close(found[0], x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], epsilon, atol=1e-5, rtol=1e-5)


def test_training_steps_cover_all_times_evenly() -> None:
    index = DDPM(VectorSpace(2), times="uniform").draw_index(1000, torch.device("cpu"))
    assert index.min() >= 1
    assert index.max() <= STEPS
    assert torch.equal(index.sort().values, torch.arange(1, STEPS + 1))  # one in each of 1000 strata


@pytest.mark.parametrize(
    "config",
    [{}, {"prediction": "epsilon", "schedule": "linear", "times": "uniform"}, {"sampler": "ddpm", "steps": 50}],
)
def test_learns_a_two_point_distribution(config: dict, train: Callable) -> None:
    torch.manual_seed(0)
    model = DDPM(VectorSpace(1), width=32, **config)
    data = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    train(model, data, 250)
    with torch.inference_mode():
        x = model.sample(256, SampleGenerator(0, 256))
    assert ((x.abs() - 1).abs() < 0.3).float().mean() > 0.9
    assert 0.3 < (x > 0).float().mean() < 0.7


def test_overfits_one_batch_of_digits(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = DDPM(ImageSpace(1, 8, 8), width=8, multipliers=[1, 2])
    losses = [float(model.train_step(Batch(digits[:32]), step / 150)["loss"]) for step in range(150)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_steps_and_evaluations() -> None:
    assert DDPM(VectorSpace(2), steps=7).nfe == 7
    for wrong in (
        {"steps": 0},
        {"steps": 1001},
        {"eta": 1.5},
        {"prediction": "x"},
        {"schedule": "square"},
        {"width": 12},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            DDPM(VectorSpace(2), **wrong)
