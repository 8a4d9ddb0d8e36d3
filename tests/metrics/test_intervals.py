import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from bench.metrics.intervals import area_under_roc, mean_of, proportion_of, ratio_of_means


def coverage(draw, truth, repetitions=600):
    hits = 0
    for _ in range(repetitions):
        measured = draw()
        hits += measured.low <= truth <= measured.high
    return hits / repetitions


@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("shape", ["normal", "exponential", "lognormal 1.5", "t3"])
def test_the_interval_of_a_mean_covers_also_where_values_are_skewed(shape, n):
    rng = np.random.default_rng(n)
    draws = {
        "normal": (lambda: rng.normal(3, 2, n), 3),
        "exponential": (lambda: rng.exponential(1, n), 1),
        "lognormal 1.5": (lambda: rng.lognormal(0, 1.5, n), np.exp(1.125)),
        "t3": (lambda: rng.standard_t(3, n), 0),
    }
    draw, truth = draws[shape]
    assert 0.88 <= coverage(lambda: mean_of(draw(), name="mean"), truth) <= 0.99


def test_without_skew_the_interval_is_the_t_interval():
    rng = np.random.default_rng(0)
    half = rng.normal(size=100)
    values = np.concatenate([5 + half, 5 - half])
    measured = mean_of(values, name="mean")
    low, high = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert measured.low == pytest.approx(low, abs=1e-9)
    assert measured.high == pytest.approx(high, abs=1e-9)


def test_right_skew_stretches_the_interval_to_the_right():
    measured = mean_of(np.random.default_rng(0).exponential(size=50), name="mean")
    assert measured.high - measured > measured - measured.low


def test_no_interval_where_none_can_be_given():
    assert mean_of(np.ones(29), name="m").low is None
    broken = mean_of([1.0] * 40 + [np.inf], name="m")
    assert broken.low is None
    assert "1 of 41" in broken.note
    constant = mean_of(np.full(40, 2.5), name="m")
    assert (constant.low, float(constant), constant.note) == (None, 2.5, "no interval: all 40 values are equal")
    rare = mean_of([0.0] * 91 + [1.0, 2.0, 3.0] * 3, name="m")
    assert (rare.low, rare.note) == (None, "no interval: all but 9 of 100 values are equal")
    assert mean_of([0.0] * 90 + [1.0, 2.0] * 5, name="m").low is not None


def test_ratio_of_means_covers():
    rng = np.random.default_rng(2)

    def draw():
        bottom = rng.gamma(4, 1, 60)
        return ratio_of_means(2 * bottom + rng.exponential(1, 60), bottom, name="ratio")

    assert 0.90 <= coverage(draw, (2 * 4 + 1) / 4) <= 0.99


def test_wilson_interval_equals_scipy():
    hits = np.arange(50) < 7
    measured = proportion_of(hits, name="share")
    reference = stats.binomtest(7, 50).proportion_ci(method="wilson")
    assert (measured.low, measured.high) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_area_under_roc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(3)
    negatives, positives = rng.integers(0, 9, 80), rng.integers(2, 12, 50)
    measured = area_under_roc(negatives, positives, name="auroc")
    reference = roc_auc_score(np.r_[np.zeros(80), np.ones(50)], np.r_[negatives, positives])
    assert float(measured) == pytest.approx(reference, abs=1e-12)


def test_area_under_roc_interval_covers():
    rng = np.random.default_rng(4)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    assert (
        0.92 <= coverage(lambda: area_under_roc(rng.normal(size=60), 1 + rng.normal(size=40), name="a"), truth) <= 0.98
    )


def test_perfect_separation_has_no_interval():
    measured = area_under_roc(np.arange(20), np.arange(20) + 100, name="auroc")
    assert float(measured) == 1
    assert measured.low is None
    assert "separated" in measured.note
