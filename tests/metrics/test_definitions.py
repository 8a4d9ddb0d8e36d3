"""Metrics held against their definition, written out plainly, or against an independent library; on fresh random features each time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, jensenshannon
from sklearn.cluster import KMeans

from bench.metrics import (
    authpct,
    clipped_coverage,
    clipped_density,
    data_copying,
    fid_infinity,
    fld,
    fld_gap,
    frechet_distance,
    median_realism,
    mifid,
    mifid_distance,
    ndb,
    near_copies,
    nearest_train_ratio,
    realism_score,
    sliced_wasserstein,
    vendi_score,
    vendi_score_from_kernel,
)
from bench.metrics.clipped import calibrated
from bench.metrics.order import order_of, sampled, shuffled
from tests.metrics.test_clipped import by_definition as clipped_by_definition


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng()


def three_sets(rng, least=60, most=160):
    """Train, test and fake of some width, a few fakes close to training examples."""
    d = int(rng.integers(2, 9))
    train, test, fake = (
        rng.gamma(3, 1, (int(rng.integers(least, most)), d)) @ np.diag(np.arange(1, d + 1) ** -0.5) for _ in range(3)
    )
    fake = fake * rng.uniform(0.8, 1.2)
    fake[:9] = train[:9] + 0.01 * rng.normal(size=(9, d))
    return train, test, fake


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_mifid_beside_torchmetrics(rng):
    """torchmetrics averages over what it is given as *real*, where the paper averages over samples: so the sides are given the other
    way round. The Fréchet distance does not mind."""
    module = pytest.importorskip("torchmetrics.image.mifid")
    train, _, fake = three_sets(rng)
    for threshold in (0.9, 1e-9):
        theirs = module.MemorizationInformedFrechetInceptionDistance(torch.nn.Flatten(), cosine_distance_eps=threshold)
        theirs.update(torch.from_numpy(fake), real=True)
        theirs.update(torch.from_numpy(train), real=False)
        ours = mifid(frechet_distance(train, fake), mifid_distance(train, fake), threshold)
        assert float(ours) == pytest.approx(float(theirs.compute()), rel=1e-6)


@pytest.mark.peer
def test_vendi_beside_vendi_score(rng):
    vendi = pytest.importorskip("vendi_score.vendi")
    x = rng.gamma(2, 1, (int(rng.integers(40, 150)), int(rng.integers(3, 200))))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert float(vendi_score(x)) == pytest.approx(vendi.score_X(x), rel=1e-8)
    for q, theirs in ((0.5, 0.5), (2, 2), (math.inf, "inf")):
        due = vendi.score_K(unit @ unit.T, q=theirs)
        if (
            q >= 1 or x.shape[0] <= x.shape[1]
        ):  # below 1 the package counts eigenvalues that are rounding, of matrices without full rank
            assert float(vendi_score(x, q)) == pytest.approx(due, rel=1e-6)
            assert float(vendi_score_from_kernel(unit @ unit.T, q)) == pytest.approx(due, rel=1e-6)


def test_authenticity_example_by_example(rng):
    train, _, fake = three_sets(rng)
    to_train, among = cdist(fake, train), cdist(train, train)
    np.fill_diagonal(among, np.inf)
    farther = [row.min() > among[row.argmin()].min() for row in to_train]
    assert float(authpct(train, fake)) == pytest.approx(100 * np.mean(farther), abs=1e-9)


def test_copies_example_by_example(rng):
    train, test, fake = three_sets(rng)
    among = cdist(train, train)
    np.fill_diagonal(among, np.inf)
    limit = np.quantile(among.min(1), 0.01)
    of_fake, of_test = cdist(fake, train).min(1), cdist(test, train).min(1)
    assert float(near_copies(train, test, fake)) == pytest.approx(np.mean(of_fake <= limit) - np.mean(of_test <= limit))
    assert float(nearest_train_ratio(train, test, fake)) == pytest.approx(np.median(of_fake) / np.median(of_test))


def test_data_copying_pair_by_pair(rng):
    train, test, fake = three_sets(rng, 150, 260)
    cells = KMeans(2, n_init=3, random_state=0).fit(shuffled(train))
    total = weights = 0.0
    for cell in range(2):
        t, p, q = (each[cells.predict(each) == cell] for each in (train, test, fake))
        if len(q) <= 20 or len(p) < 2:
            continue
        of_p, of_q = cdist(p, t).min(1), cdist(q, t).min(1)
        u = sum(float(b > a) + 0.5 * float(b == a) for a in of_p for b in of_q)
        m, n = len(of_q), len(of_p)
        total += n * (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)
        weights += n
    assert float(data_copying(train, test, fake, cells=2)) == pytest.approx(total / weights, rel=1e-9)


def test_sliced_wasserstein_by_repeated_samples(rng):
    """With every sample repeated until both sets are of one size, the distance in one dimension is that of sorted values."""
    real, _, fake = three_sets(rng, 20, 70)
    axes = np.random.default_rng(4).normal(size=(30, real.shape[1]))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    squares = [
        np.mean((np.sort(np.repeat(real @ u, len(fake))) - np.sort(np.repeat(fake @ u, len(real)))) ** 2) for u in axes
    ]
    assert float(sliced_wasserstein(real, fake, 30, seed=4)) == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-9)


def test_realism_ball_by_ball(rng):
    real, _, fake = three_sets(rng)
    k = int(rng.integers(1, 6))
    radii = np.sort(cdist(real, real), axis=1)[:, k]
    kept = radii <= np.median(radii)
    due = [max(radii[kept] / np.linalg.norm(real[kept] - sample, axis=1)) for sample in fake]
    assert realism_score(real, fake, k) == pytest.approx(due, rel=1e-9)
    assert float(median_realism(real, fake, k)) == pytest.approx(np.median(due), rel=1e-9)


def test_clipped_scores_ball_by_ball(rng):
    real, _, fake = three_sets(rng)
    k = int(rng.integers(2, 7))
    density, raw = clipped_by_definition(real, fake, k)
    assert float(clipped_density(real, fake, k)) == pytest.approx(density, abs=1e-12)
    assert float(clipped_coverage(real, fake, k)) == pytest.approx(calibrated(raw, len(real), len(fake), k), abs=1e-12)


def test_bins_sample_by_sample(rng):
    """The cells are k-means' (the same start); who falls where, the test of two proportions and the divergence are done by hand."""
    train, real, fake = three_sets(rng)
    centres = KMeans(6, n_init=1, random_state=3).fit(sampled(train, 10_000, 3)).cluster_centers_
    shares = [np.bincount(cdist(x, centres).argmin(1), minlength=6) / len(x) for x in (real, fake)]
    different = 0
    for p, q in zip(*shares):
        pooled = (p * len(real) + q * len(fake)) / (len(real) + len(fake))
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(real) + 1 / len(fake)))
        different += abs(p - q) > 1.959963985 * error
    found, jsd = ndb(real, fake, 6, train, seed=3)
    assert float(found) == pytest.approx(different / 6)
    assert float(jsd) == pytest.approx(jensenshannon(*shares) ** 2, rel=1e-9)


def test_infinity_by_a_fitted_line(rng):
    real, _, fake = three_sets(rng)
    fake = fake[order_of(fake, seed=5)]
    sizes = np.linspace(max(len(fake) // 10, 2 * fake.shape[1]), len(fake), 7).round().astype(int)

    def distance(x, y):
        s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)

    line = np.polyfit(1 / sizes, [distance(real, fake[:size]) for size in sizes], 1)
    assert float(fid_infinity(real, fake, seed=5, points=7)) == pytest.approx(line[1], rel=1e-6, abs=1e-9)


def fitted(centres, train):
    """Variances of isotropic Gaussians on ``centres``, by 15 steps of EM with a background Gaussian, one responsibility at a time."""
    d = train.shape[1]
    squared = cdist(train, centres, "sqeuclidean")
    background = 0.81 * ((train - train.mean(0)) ** 2).sum(1)
    variances, wide = (squared.min(0) + 1e-3) / d, 1.0
    for _ in range(15):
        density = np.exp(-squared / (2 * variances)) / (2 * np.pi * variances) ** (d / 2) / len(centres)
        rest = np.exp(-background / (2 * wide)) / (2 * np.pi * wide) ** (d / 2)
        total = density.sum(1) + rest
        shares, of_rest = density / total[:, None], rest / total
        variances = (shares * squared).sum(0) / (d * shares.sum(0))
        wide = (of_rest * background).sum() / (d * of_rest.sum())
    return variances


def nats(x, centres, variances):
    d = x.shape[1]
    density = np.exp(-cdist(x, centres, "sqeuclidean") / (2 * variances)) / (2 * np.pi * variances) ** (d / 2)
    return -np.log(density.mean(1)) / d


def test_feature_likelihood_by_plain_em(rng):
    train, test, fake = three_sets(rng)
    fake[:9] += rng.normal(
        size=fake[:9].shape
    )  # no near-copies, whose densities would leave the range of plain numbers
    mean, scale = test.mean(0), test.std(0, ddof=1)
    x, y, z = ((each - mean) / scale for each in (train, test, fake))
    x = shuffled(x)
    half = min(len(z), len(x) // 2)
    own = fitted(z, x)
    centres, rest = x[::2][:half], np.concatenate([x[1::2], x[::2][half:]])
    baseline = nats(y, centres, fitted(centres, rest))
    assert float(fld(train, test, fake)) == pytest.approx(100 * (nats(y, z, own) - baseline).mean(), rel=1e-6, abs=1e-6)
    gap = 100 * (nats(x, z, own).mean() - nats(y, z, own).mean())
    assert float(fld_gap(train, test, fake)) == pytest.approx(gap, rel=1e-6, abs=1e-6)
