import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from bench.metrics.feature_likelihood import _fitted, _mixtures, fld, fld_gap


@pytest.fixture(scope="module")
def digits():
    x = load_digits().data[np.random.default_rng(0).permutation(1797)]
    return x[:300], x[300:500], x[500:700]


def pca_samples(train, components, n=200):
    own = PCA(components).fit(train)
    z = np.random.default_rng(1).normal(size=(n, components))
    return own.inverse_transform(z * np.sqrt(own.explained_variance_))


def test_the_likelihood_is_that_of_the_mixture(digits):
    own, _ = _mixtures(*digits)
    centres, variance, x = own.centres.numpy(), own.log_variance.exp().numpy(), own.test.numpy()
    d = x.shape[1]
    squared = ((x[:, None] - centres[None]) ** 2).sum(2)
    terms = -0.5 * squared / variance - 0.5 * d * np.log(2 * np.pi * variance) - np.log(len(centres))
    assert own.nll(own.test) == pytest.approx(-logsumexp(terms, axis=1) / d, rel=1e-9)


def test_variances_maximise_the_training_likelihood(digits):
    """Around the fitted variances the penalised likelihood of the training set falls in every direction tried."""
    own, _ = _mixtures(*digits)
    x, centres = own.train.numpy(), own.centres.numpy()
    d = x.shape[1]
    squared = ((x[:, None] - centres[None]) ** 2).sum(2)
    far = 0.81 * ((x - x.mean(0)) ** 2).sum(1)

    def likelihood(log_variance):
        terms = (
            -0.5 * squared / np.exp(log_variance) - 0.5 * d * (log_variance + np.log(2 * np.pi)) - np.log(len(centres))
        )
        spreads = np.linspace(-2, 2, 81)[:, None]  # the background's variance, found by search
        background = -0.5 * far / np.exp(spreads) - 0.5 * d * (spreads + np.log(2 * np.pi))
        return max(logsumexp(np.c_[terms, b], axis=1).mean() for b in background)

    fitted = own.log_variance.numpy()
    best = likelihood(fitted)
    rng = np.random.default_rng(2)
    for _ in range(3):
        assert likelihood(fitted + 0.5 * rng.normal(size=len(fitted))) < best


def test_one_gaussian_has_its_closed_form():
    import torch

    rng = np.random.default_rng(3)
    x = torch.from_numpy(2 * rng.normal(size=(4000, 3)))
    centre = torch.zeros(1, 3, dtype=torch.float64)
    assert float(_fitted(centre, x, x).log_variance.exp()[0]) < 4.2  # never above the maximum-likelihood variance


def test_held_out_data_score_about_zero_and_worse_samples_higher(digits):
    train, test, real = digits
    rng = np.random.default_rng(4)
    scores = [fld(train, test, real + s * rng.normal(size=real.shape)) for s in (0, 1, 2, 4)]
    assert scores[0].low < 3
    assert scores[0].high > -3
    assert [float(s) for s in scores] == sorted(float(s) for s in scores)
    assert fld(train, test, pca_samples(train, 5)).low > scores[0].high


def test_low_diversity_costs(digits):
    train, test, real = digits
    few = np.repeat(real[:20], 10, axis=0)
    assert float(fld(train, test, few)) > float(fld(train, test, real)) + 10


def test_copies_are_enormous_and_the_gap_says_so(digits):
    train, test, real = digits
    rng = np.random.default_rng(5)
    noisy_copies = train[:200] + 0.1 * rng.normal(size=(200, 64))
    measured = fld(train, test, noisy_copies)
    assert measured > 100
    assert "copies" in measured.note
    assert fld_gap(train, test, noisy_copies) < -200
    assert fld_gap(train, test, noisy_copies).low is None
    honest = fld_gap(train, test, real)
    assert honest.low < float(honest) < honest.high
    assert abs(fld_gap(train, test, real)) < 20


def test_order_scale_and_constant_features_change_nothing(digits):
    train, test, real = digits
    value = float(fld(train, test, real))
    rng = np.random.default_rng(6)
    assert float(fld(train, rng.permutation(test), rng.permutation(real))) == pytest.approx(value, abs=1e-6)
    assert float(fld(5 * train + 1, 5 * test + 1, 5 * real + 1)) == pytest.approx(value, abs=1e-6)
    constant = [np.hstack([x, np.ones((len(x), 2))]) for x in (train, test, real)]
    assert float(fld(*constant)) == pytest.approx(value, abs=1e-9)
