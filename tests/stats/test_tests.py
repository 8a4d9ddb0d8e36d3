"""Tests against scipy and brute force; false-alarm rate and power by simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.stats.tests import (
    _exceeds,
    hodges_lehmann,
    holm,
    minimum_detectable_effect,
    paired_t_test,
    sign_flip_interval,
    sign_flip_test,
    smallest_p,
    welch_test,
)


def flips_by_hand(d, margin, alternative):
    d = np.asarray(d) - margin
    sums = np.array([np.dot(signs, d) for signs in product([1, -1], repeat=len(d))])
    greater, less = np.mean(sums >= d.sum() - 1e-9), np.mean(sums <= d.sum() + 1e-9)
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_sign_flip_equals_counting_every_flip_by_hand(alternative):
    rng = np.random.default_rng()
    for n in (1, 2, 5, 9):
        d, margin = rng.normal(0.3, 1, n), rng.normal(0, 0.3)
        assert sign_flip_test(d, margin, alternative).p == pytest.approx(flips_by_hand(d, margin, alternative))
    whole = rng.integers(-3, 4, 8)  # many equal sums
    assert sign_flip_test(whole, 1.0, alternative).p == pytest.approx(flips_by_hand(whole, 1.0, alternative))


def test_sign_flip_equals_scipys_permutation_test():
    d = np.random.default_rng().normal(0.5, 1, 10)
    theirs = stats.permutation_test((d, -d), lambda x, y, axis: np.mean(x, axis=axis), permutation_type="samples",
                                    vectorized=True, n_resamples=np.inf, alternative="greater")  # fmt: skip
    assert sign_flip_test(d).p == pytest.approx(theirs.pvalue)


def test_many_differences_use_seeded_random_subsets_that_agree_with_the_exact_count():
    rng = np.random.default_rng(5)
    d = rng.normal(0.35, 1, 17)
    exact = flips_by_hand(d, 0.0, "greater")
    assert sign_flip_test(d, seed=1).p == pytest.approx(exact, rel=0.1)
    assert sign_flip_test(d, seed=1) == sign_flip_test(d, seed=1)
    assert sign_flip_test(d, seed=1).smallest == pytest.approx(2**-16, rel=1e-3)


@pytest.mark.parametrize(
    "draw", [lambda rng, s: rng.normal(size=s), lambda rng, s: rng.standard_t(1.5, s)], ids=["normal", "heavy"]
)
def test_false_alarms_are_at_most_alpha_and_exactly_so_at_the_margin(draw):
    rng = np.random.default_rng(0)
    draws = 3000
    p_at_zero = np.array([sign_flip_test(d).p for d in draw(rng, (draws, 8))])
    p_at_margin = np.array([sign_flip_test(d + 0.5, margin=0.5).p for d in draw(rng, (draws, 8))])
    for p in (p_at_zero, p_at_margin):
        for alpha in (0.01, 0.05):  # both are attainable to within 1/256
            assert np.mean(p <= alpha) == pytest.approx(np.floor(alpha * 256) / 256, abs=4 * (alpha / draws) ** 0.5)


def test_interval_is_the_set_of_margins_that_are_not_rejected():
    rng = np.random.default_rng()
    d = rng.normal(0.2, 1, 8)
    estimate = sign_flip_interval(d, level=0.95)
    for margin in np.linspace(d.min() - 1, d.max() + 1, 301):
        kept = sign_flip_test(d, margin, "greater").p > 0.025 and sign_flip_test(d, margin, "less").p > 0.025
        assert kept == (estimate.low <= margin <= estimate.high)
    assert estimate.low <= estimate.value <= estimate.high
    assert sign_flip_interval(d[:5]).low is None
    assert sign_flip_interval(d[:6]).low == min(d[:6])


@pytest.mark.parametrize("n", [6, 8, 14])
def test_interval_covers_symmetric_differences_exactly(n):
    rng = np.random.default_rng(n)
    draws = 2000
    for sample in (rng.normal(size=(draws, n)), rng.standard_t(2, (draws, n))):
        hits = sum(e.low <= 0 <= e.high for e in map(sign_flip_interval, sample))
        expected = 1 - 2 * np.floor(0.025 * 2**n) / 2**n
        assert hits / draws == pytest.approx(expected, abs=4 * (0.05 / draws) ** 0.5)


def test_hodges_lehmann_shrugs_off_an_outlier():
    assert hodges_lehmann([1.0, 2.0, 3.0]) == 2.0
    assert abs(hodges_lehmann([0.9, 1.0, 1.0, 1.1, 100.0]) - 1.0) < 0.2
    assert hodges_lehmann([1.0, 4.0]) == 2.5


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_t_tests_equal_scipy(alternative):
    rng = np.random.default_rng()
    a, b, margin = rng.normal(0, 1, 6), rng.normal(0.5, 2, 6), 0.2
    paired = stats.ttest_1samp(b - a, margin, alternative=alternative)
    assert paired_t_test(a, b, margin, alternative).p == pytest.approx(paired.pvalue)
    welch = stats.ttest_ind(b - margin, a[:4], equal_var=False, alternative=alternative)
    assert welch_test(a[:4], b, margin, alternative).p == pytest.approx(welch.pvalue)


def test_t_tests_without_spread_or_values():
    assert paired_t_test([1, 2, 3], [2, 3, 4]).p == 0.0
    assert paired_t_test([1, 2, 3], [1, 2, 3]).p == 1.0
    assert welch_test([1, 1], [2, 2], alternative="less").p == 1.0
    assert (paired_t_test([1], [2]).p, welch_test([1], [2, 3]).p) == (1.0, 1.0)
    with pytest.raises(BenchError, match="2 and 3"):
        paired_t_test([1, 2], [1, 2, 3])
    with pytest.raises(BenchError, match="got 'bigger'"):
        welch_test([1, 2], [1, 2, 3], alternative="bigger")


def test_smallest_p_is_what_the_exact_tests_reach():
    assert smallest_p(3, 3) == pytest.approx(0.1)
    assert smallest_p(4, 4) == pytest.approx(2 / 70)
    assert smallest_p(5, 5) == pytest.approx(2 / 252)
    assert smallest_p(5, alternative="greater") == 1 / 32
    for n in (3, 5, 8):
        extreme = sign_flip_test(np.ones(n), alternative="two-sided")
        assert extreme.p == extreme.smallest == smallest_p(n)
    a, b = np.arange(3), np.arange(3) + 10
    splits = [abs(np.mean(c) - (33 + 3 - sum(c)) / 3) for c in combinations(np.concatenate([a, b]), 3)]
    assert np.mean(np.array(splits) >= 10 - 1e-9) == pytest.approx(smallest_p(3, 3))


@pytest.mark.parametrize(("n", "m"), [(3, None), (8, None), (5, 5), (3, 10)])
def test_minimum_detectable_effect_is_found_with_the_stated_power(n, m):
    rng = np.random.default_rng(n)
    sd, draws = 2.0, 3000
    effect = minimum_detectable_effect(sd, n, m)
    if m is None:
        found = stats.ttest_1samp(rng.normal(effect, sd, (draws, n)), 0, axis=1).pvalue <= 0.05
    else:
        found = (
            stats.ttest_ind(rng.normal(0, sd, (draws, n)), rng.normal(effect, sd, (draws, m)), axis=1).pvalue <= 0.05
        )
    assert found.mean() == pytest.approx(0.8, abs=4 * (0.16 / draws) ** 0.5)


def test_minimum_detectable_effect_at_the_edges():
    assert minimum_detectable_effect(1.0, 1) is None
    assert minimum_detectable_effect(0.0, 5) == 0.0
    assert minimum_detectable_effect(1.0, 5, alternative="greater") < minimum_detectable_effect(1.0, 5)
    # the survey of Welch power: a 2 sigma effect is found with 75 % at 5 v 5, so 80 % needs a little more
    assert 2.0 < minimum_detectable_effect(1.0, 5, 5) < 2.1


@pytest.mark.parametrize("freedom", [1, 2, 4, 20, 400])
def test_power_equals_the_noncentral_t_of_scipy(freedom):
    for alpha in (0.2, 0.05, 0.01):
        critical = stats.t.isf(alpha, freedom)
        for centre in (0.5, 3.0, 6.0):
            expected = stats.nct.sf(critical, freedom, centre)
            assert _exceeds(critical, centre, freedom) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-9])
def test_one_degree_of_freedom_and_a_tiny_level_still_give_a_number(alpha):
    """With one degree of freedom t exceeds c when |chi| < centre / c: four times in five at centre = 1.2816 c."""
    effect = minimum_detectable_effect(1.0, 2, alpha=alpha, alternative="greater")
    assert effect * 2**0.5 == pytest.approx(stats.norm.isf(0.1) * stats.t.isf(alpha, 1), rel=0.01)
    assert minimum_detectable_effect(1.0, 2, alpha=0.0) == np.inf


def closed_testing(p):
    """Holm as closed testing with Bonferroni local tests, straight from the definition."""
    m = len(p)
    subsets = [s for size in range(1, m + 1) for s in combinations(range(m), size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(m)]


def test_holm_equals_closed_testing():
    rng = np.random.default_rng()
    for m in (1, 2, 5, 7):
        p = rng.random(m) ** 3
        assert holm(p) == pytest.approx(closed_testing(p))
    assert holm([0.01, 0.01, 0.04]) == pytest.approx([0.03, 0.03, 0.04])
    assert holm([]).size == 0
    with pytest.raises(BenchError, match=r"\[0, 1\]"):
        holm([0.5, 1.5])


def test_holm_keeps_the_family_wise_rate_among_true_and_false_hypotheses():
    rng = np.random.default_rng(1)
    draws, alarms, found = 2000, 0, 0
    for _ in range(draws):
        z = rng.normal(size=20) + np.r_[np.full(5, 4.0), np.zeros(15)]
        rejected = holm(stats.norm.sf(z)) <= 0.05
        alarms += rejected[5:].any()
        found += rejected[:5].sum()
    assert alarms / draws <= 0.05 + 4 * (0.05 / draws) ** 0.5
    assert found / draws / 5 > 0.8


def test_sign_flips_do_not_depend_on_the_unit():
    d = np.random.default_rng().normal(0.5, 1, 8)
    assert sign_flip_test(1e-15 * d, 1e-16).p == sign_flip_test(d, 0.1).p == sign_flip_test(1e15 * d, 1e14).p
