"""EDM: the preconditioning keeps unit variance; training and sampling on a known Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.model import BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.edm import EDM, noise_time, preconditioning


def test_inputs_and_targets_of_the_network_have_unit_variance() -> None:
    torch.manual_seed(0)
    data = 0.5 * torch.randn(50_000, 1)
    for sigma in (0.01, 0.4, 20.0):
        at = torch.tensor([[sigma]])
        c_skip, c_out, c_in = preconditioning(at, 0.5)
        x = data + at * torch.randn_like(data)
        assert float((c_in * x).std()) == pytest.approx(1, rel=0.02)
        assert float(((data - c_skip * x) / c_out).std()) == pytest.approx(1, rel=0.02)


def test_an_untrained_denoiser_is_the_skip_and_exact_for_gaussian_data() -> None:
    """The network begins at zero: D = c_skip x is the best denoiser of N(0, sigma_data^2), whose samples come out right."""
    model = EDM(VectorSpace(1), sigma_data=0.5, steps=40).eval()
    with torch.inference_mode():
        x = model.sample(4096, SampleGenerator(0, 4096))
    assert float(x.std()) == pytest.approx(0.5, rel=0.04)


def test_times_span_the_unit_interval() -> None:
    torch.testing.assert_close(noise_time(torch.tensor([0.002, 0.4, 80.0])), torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("config", [{}, {"churn": 10.0}])
def test_learns_a_two_point_distribution(config: dict, train: Callable) -> None:
    torch.manual_seed(0)
    model = EDM(VectorSpace(1), width=32, **config)
    train(model, torch.tensor([[-1.0], [1.0]]).repeat(50, 1), 250)
    with torch.inference_mode():
        x = model.sample(256, SampleGenerator(0, 256))
    assert ((x.abs() - 1).abs() < 0.3).float().mean() > 0.9
    assert 0.3 < (x > 0).float().mean() < 0.7


def test_noise_levels_of_training_follow_the_space() -> None:
    images, vectors = EDM(ImageSpace(1, 8, 8)), EDM(VectorSpace(2))
    assert (images.log_mean, images.log_std) == (-0.4, 1.0)
    assert (vectors.log_mean, vectors.log_std) == (-1.2, 1.2)
    chosen = EDM(ImageSpace(1, 8, 8), log_mean=0.0, log_std=0.5)
    assert (chosen.log_mean, chosen.log_std) == (0.0, 0.5)


def test_evaluations_and_wrong_options() -> None:
    assert EDM(VectorSpace(2), steps=18).nfe == 35
    for wrong in ({"sigma_max": 0.001}, {"churn": -1.0}, {"steps": 0}, {"sigma_data": 0.0}, {"log_std": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            EDM(VectorSpace(2), **wrong)
