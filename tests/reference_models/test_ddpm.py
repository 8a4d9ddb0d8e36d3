"""The diffusion model: schedules, the forward process and what the predictions mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.ddpm import DDPM
from reference_models.forward_process import (
    SCHEDULES,
    STEPS,
    ProcessConfig,
    cosine_schedule,
    linear_schedule,
    loss_weight,
    resolved,
)


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
    process = DDPM(VectorSpace(2)).process
    torch.manual_seed(0)
    mean = torch.tensor([1.5, -0.5])
    for index in (1, 300, 900):
        x = process.diffuse(mean.expand(100_000, 2), torch.randn(100_000, 2), torch.full((100_000,), index))
        alpha_bar = process.alpha_bar(index / STEPS)
        torch.testing.assert_close(x.mean(0), math.sqrt(alpha_bar) * mean, atol=0.02, rtol=0)
        torch.testing.assert_close(x.var(0), torch.full((2,), 1 - alpha_bar), atol=0.01, rtol=0.02)


@pytest.mark.parametrize("prediction", ["v", "epsilon", "x0"])
def test_a_perfect_prediction_has_no_loss_and_denoises_perfectly(prediction: str) -> None:
    torch.manual_seed(0)
    process = DDPM(VectorSpace(3), prediction=prediction).process
    x0, epsilon, index = torch.randn(4, 3), torch.randn(4, 3), torch.full((4,), 400)
    target = process.target(x0, epsilon, index)
    assert process.loss(target, x0, epsilon, index) == 0
    found = process.clean(target, process.diffuse(x0, epsilon, index), 0.4)
    torch.testing.assert_close(found[0], x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], epsilon, atol=1e-5, rtol=1e-5)


def test_images_are_predicted_clean_and_vectors_by_velocity() -> None:
    assert resolved(ProcessConfig(), True) == ("x0", "velocity", 0.5)
    assert resolved(ProcessConfig(), False) == ("v", "simple", 0.0)
    assert resolved(ProcessConfig(prediction="epsilon", noise_shift=0.0), True) == ("epsilon", "simple", 0.0)
    assert DDPM(ImageSpace(1, 8, 8), width=8).process.prediction == "x0"


@pytest.mark.parametrize("weighting", ["velocity", "min-snr"])
def test_weights_make_predictions_equal(weighting: str) -> None:
    """The same error in x0 costs the same, whatever is predicted."""
    alphas = cosine_schedule()
    for index in (200, 500, 800):
        a = float(alphas[index])
        error = {"x0": 1.0, "epsilon": a / (1 - a), "v": 1 / (1 - a)}  # squared, for an error of 1 in x0
        costs = [float(loss_weight(alphas, name, weighting)[index]) * error[name] for name in error]
        assert costs == pytest.approx([costs[0]] * 3)
        if weighting == "min-snr":
            assert costs[0] == pytest.approx(min(a / (1 - a), 5))
    assert (loss_weight(alphas, "epsilon", "simple")[1:] == 1).all()


def test_learned_variance_learns_from_the_bound_only(digits: Tensor) -> None:
    """Where the mean is exact, the best variance is the posterior's: mix 0, bound 0; a larger one costs."""
    model = DDPM(VectorSpace(2), variance="learned")
    torch.manual_seed(0)
    x0, epsilon, index = torch.randn(8, 2), torch.randn(8, 2), torch.arange(1, 9) * 100
    x = model.process.diffuse(x0, epsilon, index)
    exact = model.process.target(x0, epsilon, index)
    assert float(model.variance_bound(exact, torch.zeros(8, 2), x0, x, index)) == pytest.approx(0, abs=1e-2)
    assert float(model.variance_bound(exact, torch.ones(8, 2), x0, x, index)) > 1e-3
    images = DDPM(ImageSpace(1, 8, 8), width=8, variance="learned", sampler="ddpm", steps=4)
    losses = images.train_step(Batch(digits[:8]), 0.1)
    assert losses["vlb"].isfinite()
    with torch.inference_mode():
        assert images.eval().sample(2, SampleGenerator(0, 2)).shape == (2, 1, 8, 8)


def test_training_steps_cover_all_times_evenly() -> None:
    index = DDPM(VectorSpace(2), times="uniform").process.draw_index(1000, torch.device("cpu"))
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


@pytest.mark.parametrize("steps", [7, 1000])
@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpm-solver++"])
def test_nfe_counts_the_calls_of_the_network(sampler: str, steps: int) -> None:
    """A thousand steps of a sampler that starts a little below t = 1 are fewer: times of the grid that meet are taken once."""
    model = DDPM(VectorSpace(2), width=8, blocks=1, sampler=sampler, steps=steps).eval()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model.network.register_forward_hook(count)
    with torch.inference_mode():
        model.sample(1, SampleGenerator(0, 1))
    assert model.nfe == calls


def test_steps_and_evaluations() -> None:
    assert DDPM(VectorSpace(2), steps=7).nfe == 7
    for wrong in (
        {"steps": 0},
        {"steps": 1001},
        {"eta": 1.5},
        {"prediction": "x"},
        {"weighting": "snr"},
        {"variance": "none"},
        {"sampler": "euler"},
        {"schedule": "square"},
        {"width": 12},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            DDPM(VectorSpace(2), **wrong)
