"""Baselines do exactly what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, TokenSpace, VectorSpace
from reference_models.baselines import CopyTrain, Floor, Gaussian, Mean, Noise

SPACE = ImageSpace(1, 8, 8)


def loader(x: Tensor) -> list[Batch]:
    return [Batch(part) for part in x.split(50)]


def test_floor_gives_every_training_example_once(digits: Tensor) -> None:
    model = Floor(SPACE)
    model.fit_prior(loader(digits))
    x = model.sample(len(digits), SampleGenerator(0, len(digits)))
    assert torch.equal(x.flatten(1).unique(dim=0), digits.flatten(1).unique(dim=0))
    assert not torch.equal(x, digits)
    later = model.sample(10, SampleGenerator(0, 10, start=30))
    assert torch.equal(later, x[30:40])
    other = model.sample(len(digits), SampleGenerator(1, len(digits)))
    assert not torch.equal(x, other)


def test_floor_has_no_more_samples_than_data(digits: Tensor) -> None:
    model = Floor(SPACE)
    model.fit_prior(loader(digits))
    with pytest.raises(BenchError, match="at most 512"):
        model.sample(20, SampleGenerator(0, 20, start=500))


def test_copy_train_draws_with_replacement(digits: Tensor) -> None:
    model = CopyTrain(SPACE)
    model.fit_prior(loader(digits))
    x = model.sample(1000, SampleGenerator(0, 1000))
    assert torch.cdist(x.flatten(1), digits.flatten(1)).min(1).values.max() < 1e-2
    distinct = len(x.flatten(1).unique(dim=0))
    assert distinct == pytest.approx(512 * (1 - math.exp(-1000 / 512)), rel=0.1)


def test_copy_train_and_noise_on_tokens() -> None:
    space = TokenSpace(vocabulary=11, length=5)
    data = torch.randint(11, (40, 5))
    copy, noise = CopyTrain(space), Noise(space)
    copy.fit_prior([Batch(data)])
    x = copy.sample(9, SampleGenerator(0, 9))
    assert x.dtype == torch.int64
    assert all((data == row).all(1).any() for row in x)
    tokens = noise.sample(2000, SampleGenerator(0, 2000))
    assert tokens.dtype == torch.int64
    assert tokens.unique().tolist() == list(range(11))


def test_mean(digits: Tensor) -> None:
    model = Mean(SPACE)
    model.fit_prior(loader(digits))
    x = model.sample(3, SampleGenerator(0, 3))
    torch.testing.assert_close(x, digits.mean(0).expand(3, 1, 8, 8))


def test_noise_is_uniform() -> None:
    x = Noise(SPACE).sample(500, SampleGenerator(0, 500))
    assert x.min() >= -1
    assert x.max() <= 1
    assert float(x.var()) == pytest.approx(1 / 3, rel=0.03)
    vectors = Noise(VectorSpace(3)).sample(5000, SampleGenerator(0, 5000))
    torch.testing.assert_close(vectors.T.cov(), torch.eye(3), atol=0.06, rtol=0)


@pytest.mark.parametrize("size", [6, 700])  # 700: by the randomised decomposition
def test_gaussian_has_the_moments_of_the_data(size: int) -> None:
    """Data of rank 5 plus a little noise; the mean and covariance of many samples are those of the data."""
    torch.manual_seed(0)
    x = torch.randn(400, 5) @ torch.randn(5, size) + torch.randn(size) + 0.05 * torch.randn(400, size)
    model = Gaussian(VectorSpace(size), components=64)
    model.fit_prior(loader(x))
    torch.testing.assert_close(model.mean, x.mean(0), atol=1e-5, rtol=1e-5)
    covariance = model.factors.T @ model.factors
    torch.testing.assert_close(covariance, x.T.cov(), atol=0.02 if size == 6 else 0.05, rtol=1e-3)
    s = model.sample(20_000, SampleGenerator(0, 20_000))[:, :6]
    torch.testing.assert_close(s.T.cov(), x[:, :6].T.cov(), atol=0.3, rtol=0.1)
    torch.testing.assert_close(s.mean(0), x[:, :6].mean(0), atol=0.15, rtol=0)


def test_gaussian_keeps_only_the_leading_components() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, 4) * torch.tensor([3.0, 1.0, 0.1, 0.1])
    model = Gaussian(VectorSpace(4), components=1)
    model.fit_prior([Batch(x)])
    s = model.sample(4000, SampleGenerator(0, 4000))
    assert float(s.std(0)[0]) == pytest.approx(3, rel=0.1)
    assert s.std(0)[1] < 0.3


def test_gaussian_fit_leaves_the_random_state_alone() -> None:
    x = torch.randn(30, 600)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Gaussian(VectorSpace(600)).fit_prior([Batch(x)])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", [Floor, CopyTrain, Mean, Gaussian])
def test_sampling_before_fitting_is_an_error(kind: type) -> None:
    with pytest.raises(BenchError, match="fit_prior"):
        kind(SPACE).sample(2, SampleGenerator(0, 2))


def test_baselines_do_not_train(digits: Tensor) -> None:
    for kind in (Floor, CopyTrain, Mean, Gaussian, Noise):
        model = kind(SPACE)
        assert not model.trains
        assert model.train_step(Batch(digits[:4]), 0.5) == {}
        assert model.optimizers() == {}
