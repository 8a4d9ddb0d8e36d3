"""The fitted prior, against scikit-learn and against known mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor

from bench.model import BenchError, SampleGenerator
from reference_models.gaussian_mixture import GaussianMixture, gaussian_log_density, kmeans


@pytest.fixture
def three() -> Tensor:
    """3000 points of three correlated, well separated Gaussians in 4 dimensions with weights 0.5, 0.3, 0.2."""
    generator = torch.Generator().manual_seed(1)
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 3000, replacement=True, generator=generator)
    means = 6 * torch.randn(3, 4, generator=generator)
    mixing = torch.randn(3, 4, 4, generator=generator)
    noise = torch.randn(3000, 4, generator=generator)
    return means[which] + (mixing[which] @ noise[:, :, None]).squeeze(2)


def test_fit_agrees_with_scikit_learn(three: Tensor) -> None:
    ours = GaussianMixture(3, 4)
    ours.fit(three, tolerance=1e-7, regularisation=1e-9, iterations=500)
    reference = Reference(3, reg_covar=1e-9, tol=1e-7, max_iter=500, n_init=5, random_state=0).fit(three.numpy())
    order, expected = ours.log_weights.argsort().numpy(), np.argsort(reference.weights_)
    np.testing.assert_allclose(ours.log_weights.exp().numpy()[order], reference.weights_[expected], atol=1e-3)
    np.testing.assert_allclose(ours.means.numpy()[order], reference.means_[expected], atol=1e-2)
    covariances = (ours.factors @ ours.factors.mT).numpy()[order]
    np.testing.assert_allclose(covariances, reference.covariances_[expected], rtol=1e-2, atol=1e-2)


def test_log_density_agrees_with_scikit_learn_and_torch(three: Tensor) -> None:
    ours = GaussianMixture(5, 4)
    ours.fit(three)
    reference = Reference(5)
    reference.weights_ = ours.log_weights.double().exp().numpy()
    reference.means_ = ours.means.double().numpy()
    reference.precisions_cholesky_ = np.linalg.inv(ours.factors.double().numpy()).transpose(0, 2, 1)
    np.testing.assert_allclose(ours.log_density(three[:100]), reference.score_samples(three[:100].numpy()), rtol=1e-6)
    single = torch.distributions.MultivariateNormal(ours.means[0], scale_tril=ours.factors[0])
    found = gaussian_log_density(three[:9], ours.means, ours.factors)[:, 0]
    torch.testing.assert_close(found, single.log_prob(three[:9]), rtol=1e-4, atol=1e-3)


def test_samples_have_the_moments_of_the_data(three: Tensor) -> None:
    mixture = GaussianMixture(3, 4)
    mixture.fit(three)
    z = mixture.sample(SampleGenerator(0, 20_000))
    torch.testing.assert_close(z.mean(0), three.mean(0), atol=0.25, rtol=0)
    torch.testing.assert_close(z.T.cov(), three.T.cov(), atol=1.0, rtol=0.05)


def test_fit_never_lowers_the_likelihood_below_one_gaussian(three: Tensor) -> None:
    one, many = GaussianMixture(1, 4), GaussianMixture(6, 4)
    one.fit(three)
    many.fit(three)
    torch.testing.assert_close(one.means[0], three.mean(0))
    assert many.log_density(three).mean() > one.log_density(three).mean() + 1


def test_flat_and_scarce_data_are_fitted() -> None:
    """A coordinate without variance, and fewer points than components: no failed Cholesky, no empty component drawn."""
    flat = torch.randn(200, 3)
    flat[:, 1] = 4.0
    mixture = GaussianMixture(4, 3)
    mixture.fit(flat)
    assert (mixture.sample(SampleGenerator(0, 100))[:, 1] - 4).abs().max() < 0.5
    scarce = GaussianMixture(8, 2)
    points = torch.tensor([[0.0, 0.0], [5.0, 5.0], [-5.0, 5.0]])
    scarce.fit(points)
    assert torch.cdist(scarce.sample(SampleGenerator(0, 200)), points).min(1).values.max() < 2


def test_same_data_same_mixture(three: Tensor) -> None:
    one, two = GaussianMixture(4, 4), GaussianMixture(4, 4)
    one.fit(three)
    torch.rand(7)  # the global random state plays no part
    two.fit(three)
    assert torch.equal(one.means, two.means)


def test_kmeans_finds_separated_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    z = centres.repeat(50, 1) + 0.1 * torch.randn(150, 2)
    assert torch.cdist(centres, kmeans(z, 3)).min(1).values.max() < 0.1


def test_sampling_before_fitting_is_an_error() -> None:
    with pytest.raises(BenchError, match="fit_prior"):
        GaussianMixture(2, 2).sample(SampleGenerator(0, 3))
