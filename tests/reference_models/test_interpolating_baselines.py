"""Neighbour mixing and the mixture on principal components, against scikit-learn and known mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.interpolating_baselines import NearestNeighbours, PCAMixture


def test_neighbours_agree_with_scikit_learn() -> None:
    x = torch.randn(700, 6)
    model = NearestNeighbours(VectorSpace(6), k=4)
    model.fit_prior([Batch(part) for part in x.split(100)])
    reference = NearestNeighbors(n_neighbors=4).fit(x.numpy()).kneighbors(return_distance=False)
    np.testing.assert_array_equal(model.neighbours.numpy(), reference)


def test_samples_lie_between_neighbours(digits: Tensor) -> None:
    """Every sample is on a segment between an example and one of its k neighbours; many different ones are used."""
    model = NearestNeighbours(ImageSpace(1, 8, 8), k=3)
    model.fit_prior([Batch(digits)])
    x = model.sample(200, SampleGenerator(0, 200)).flatten(1)
    data = digits.flatten(1)
    ends = torch.stack([data.repeat_interleave(3, 0), data[model.neighbours.flatten()]])
    along = ends[1] - ends[0]
    for sample in x:
        share = ((sample - ends[0]) * along).sum(1) / along.square().sum(1)
        distance = (ends[0] + share.clamp(0, 1)[:, None] * along - sample).norm(dim=1)
        assert distance.min() < 1e-3
    assert len(x.unique(dim=0)) > 190


def test_two_examples_are_enough_and_one_is_not() -> None:
    model = NearestNeighbours(VectorSpace(2))
    model.fit_prior([Batch(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))])
    x = model.sample(300, SampleGenerator(0, 300))
    torch.testing.assert_close(x[:, 0], x[:, 1])
    assert float(x.mean()) == pytest.approx(1, abs=0.15)
    with pytest.raises(BenchError, match="at least 2"):
        model.fit_prior([Batch(torch.zeros(1, 2))])


def test_pca_mixture_has_the_moments_of_a_clustered_set() -> None:
    torch.manual_seed(0)
    centres = torch.randn(3, 2) * 6 @ torch.randn(2, 20)
    which = torch.randint(3, (3000,))
    x = centres[which] + 0.3 * torch.randn(3000, 20)
    model = PCAMixture(VectorSpace(20), components=4, mixture=3)
    model.fit_prior([Batch(part) for part in x.split(500)])
    s = model.sample(6000, SampleGenerator(0, 6000))
    torch.testing.assert_close(s.mean(0), x.mean(0), atol=0.5, rtol=0.05)
    torch.testing.assert_close(s.std(0), x.std(0), atol=0.15, rtol=0.05)
    distance = torch.cdist(s, centres).min(1).values / 20**0.5
    assert distance.max() < 1, "every sample belongs to a cluster: none lies between"


def test_pca_mixture_of_images(digits: Tensor) -> None:
    model = PCAMixture(ImageSpace(1, 8, 8), components=20)
    with pytest.raises(BenchError, match="fit_prior"):
        model.sample(2, SampleGenerator(0, 2))
    model.fit_prior([Batch(digits)])
    x = model.sample(500, SampleGenerator(0, 500))
    assert x.min() >= -1
    assert x.max() <= 1
    torch.testing.assert_close(x.mean(0), digits.mean(0), atol=0.2, rtol=0)


def test_wrong_options() -> None:
    for kind, wrong in ((NearestNeighbours, {"k": 0}), (PCAMixture, {"components": 0}), (PCAMixture, {"mixture": 0})):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            kind(VectorSpace(3), **wrong)
