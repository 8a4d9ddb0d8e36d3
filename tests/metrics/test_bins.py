import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from bench.errors import BenchError
from bench.metrics.bins import divergence, histograms, jensen_shannon, kullback_leibler, ndb
from bench.metrics.collapse import collapse_verdict, missing_mass, repetitions


@pytest.fixture(scope="module")
def digits():
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    return loaded.data[order], loaded.target[order]


def pca_samples(train, components, n, seed=0):
    own = PCA(components).fit(train)
    rng = np.random.default_rng(seed)
    return own.inverse_transform(rng.normal(size=(n, components)) * np.sqrt(own.explained_variance_))


def test_divergences_equal_scipy_and_closed_forms():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(9))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-10)
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(math.log(2))
    assert kullback_leibler(np.array([0.5, 0.5]), np.array([1.0, 0])) == math.inf
    assert kullback_leibler(np.array([1.0, 0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))


def test_the_interval_of_a_divergence_covers():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.full(20, 3.0)), rng.dirichlet(np.full(20, 3.0))
    truth = jensen_shannon(p, q)
    drawn = [
        divergence(jensen_shannon, [rng.multinomial(500, p), rng.multinomial(300, q)], name="jsd") for _ in range(200)
    ]
    assert 0.90 <= np.mean([m.low <= truth <= m.high for m in drawn]) <= 0.99
    assert {m.n for m in drawn} == {300}


def test_equal_histograms_hold_zero_and_an_infinite_value_has_no_interval():
    rng = np.random.default_rng(3)
    same = divergence(jensen_shannon, [rng.multinomial(2000, np.full(10, 0.1)) for _ in range(2)], name="jsd")
    assert same.low == 0
    assert same > 0
    infinite = divergence(kullback_leibler, [np.array([50, 50]), np.array([100, 0])], name="kl")
    assert (infinite, infinite.low) == (math.inf, None)


def test_ndb_of_the_truth_is_five_per_cent_and_counts_add_up():
    rng = np.random.default_rng(4)
    shares = []
    for seed in range(8):
        train, real, fake = (rng.normal(size=(n, 4)) for n in (3000, 2000, 2000))
        shares.append(float(ndb(real, fake, 40, train, seed)[0]))
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)
    in_real, in_fake = histograms(real, fake, 40, train)
    assert (in_real.sum(), in_fake.sum()) == (2000, 2000)


def test_ndb_and_jsd_see_dropped_modes():
    rng = np.random.default_rng(7)
    centres = 4 * rng.normal(size=(10, 6))

    def sample(modes):
        return centres[rng.integers(0, modes, 1500)] + rng.normal(size=(1500, 6))

    train, real = sample(10), sample(10)
    rows = [ndb(real, sample(kept), 25, train) for kept in (10, 9, 7, 4)]
    jsd = [float(row[1]) for row in rows]
    assert jsd == sorted(jsd)
    assert rows[0][0] <= 0.2
    assert rows[0][1].low < 0.005
    assert rows[1][0] > rows[0][0]
    assert rows[2][0] > 0.5
    assert rows[3][0] > 0.8
    assert rows[3][1].low > 0.2


def test_order_of_rows_changes_nothing(digits):
    x, _ = digits
    rng = np.random.default_rng(5)
    train, real, fake = x[:700], x[700:1200], x[1200:]
    first = ndb(real, fake, 20, train)
    second = ndb(rng.permutation(real), rng.permutation(fake), 20, train)
    assert [float(m) for m in first] == pytest.approx([float(m) for m in second], abs=1e-12)
    assert first[1].high == pytest.approx(second[1].high, abs=1e-12)
    assert float(repetitions(real, fake[:400])) == pytest.approx(
        float(repetitions(rng.permutation(real)[: len(real)], rng.permutation(fake[:400]))), abs=0.01
    )


def test_missing_mass_is_the_share_left_out(digits):
    x, labels = digits
    train, real = x[:700], x[700:1200]
    rest, rest_labels = x[1200:], labels[1200:]
    shares = [float(missing_mass(real, rest[rest_labels < kept], 10, train)) for kept in (10, 5, 2)]
    assert shares[0] == 0
    assert 0.1 < shares[1] < 0.6
    assert shares[2] > 0.5


def test_honest_models_have_not_collapsed(digits):
    x, _ = digits
    train, real, fake = x[:700], x[700:1200], x[1200:]
    assert collapse_verdict(real, fake, train) == 0
    assert collapse_verdict(real, pca_samples(train, 40, 500), train) == 0
    assert collapse_verdict(real, pca_samples(train, 5, 500), train) == 0  # blurred, but all digits are there
    assert collapse_verdict(real, train, train) == 0  # copying is another fault


def test_collapsed_models_are_flagged(digits):
    x, labels = digits
    train, real = x[:700], x[700:1200]
    rest = x[1200:]
    rng = np.random.default_rng(6)
    one_digit = x[labels == 3]
    one_image = rest[:1] + 0.01 * rng.normal(size=(500, 64))
    few_images = rest[rng.integers(0, 30, 500)]  # every digit, thirty images over and over
    for collapsed in (one_digit, one_image, few_images):
        verdict = collapse_verdict(real, collapsed, train)
        assert verdict == 1
        assert "%" in verdict.note
    assert repetitions(real, few_images).low > 0.9
    assert abs(repetitions(real, rest)) < 0.05


def test_too_many_bins_are_refused(digits):
    with pytest.raises(BenchError, match="bins cannot be cut"):
        ndb(digits[0][:50], digits[0][:50], 100)


def test_features_that_are_all_equal_tell_nothing():
    rng = np.random.default_rng(0)
    same = np.full((60, 3), 0.5)
    for found in (*ndb(same, same, 10), missing_mass(same, rng.normal(size=(60, 3)))):
        assert math.isnan(found)
        assert "all training features are equal" in found.note
    verdict = collapse_verdict(same, rng.normal(size=(60, 3)))
    assert verdict == 0
    assert "missing mass cannot be told" in verdict.note


def test_few_different_rows_make_few_bins():
    kinds = np.arange(5.0)[:, None] * [1, 2]
    real, fake = kinds[np.arange(200) % 5], kinds[np.arange(200) % 4]
    share, jsd = ndb(real, fake, 50)
    assert float(share) == 0.2, "of five bins, the one without samples differs"
    p, q = np.full(5, 0.2), np.array([0.25, 0.25, 0.25, 0.25, 0])
    assert float(jsd) == pytest.approx(jensen_shannon(p, q))
