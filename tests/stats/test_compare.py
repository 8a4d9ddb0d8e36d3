"""Verdicts on trained seeds: false alarms, false reassurance and power by simulation; pairing, scales and edges."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.stats.compare import compare_exact, compare_seeds, decide, differing, gate, not_comparable


def seeds(values, first=0):
    return dict(enumerate(map(float, values), start=first))


def verdicts(rng, draw_base, draw_head, runs=1200, family=1, **how):
    found = []
    for _ in range(runs):
        family_of = [
            compare_seeds(f"m{i}", seeds(draw_base(rng)), seeds(draw_head(rng)), "lower", **how) for i in range(family)
        ]
        found.append([c.verdict for c in decide(family_of)])
    return np.array(found)


@pytest.mark.parametrize(
    "draw", [lambda rng: rng.normal(1, 0.1, 5), lambda rng: rng.lognormal(0, 0.2, 5)], ids=["normal", "skewed"]
)
def test_unchanged_families_are_called_better_or_worse_at_most_at_the_stated_rate(draw):
    found = verdicts(np.random.default_rng(0), draw, draw, family=4, margin=0.0, runs=800)
    wrong = np.isin(found, ["better", "worse"]).any(axis=1).mean()
    assert wrong <= 0.05 + 4 * (0.05 / 800) ** 0.5


def test_at_the_margin_neither_worse_nor_equivalent_is_said_too_often():
    """The head is exactly 5 % worse, the margin 5 %: both verdicts are at their nominal error rate of 5 % (worse: 2.5 %)."""
    rng = np.random.default_rng(1)
    found = verdicts(rng, lambda r: r.lognormal(0, 0.02, 5), lambda r: r.lognormal(np.log(1.05), 0.02, 5))
    assert np.mean(found == "worse") <= 0.04
    assert np.mean(found == "equivalent") <= 0.065


def test_a_worse_model_is_found_and_an_equal_one_is_called_equivalent():
    rng = np.random.default_rng(2)
    worse = verdicts(rng, lambda r: r.lognormal(0, 0.05, 5), lambda r: r.lognormal(np.log(1.3), 0.05, 5), runs=300)
    assert np.mean(worse == "worse") > 0.95
    equal = verdicts(rng, lambda r: r.lognormal(0, 0.02, 5), lambda r: r.lognormal(0, 0.02, 5), runs=300)
    assert np.mean(equal == "equivalent") > 0.8


def test_pairing_by_seed_uses_what_seeds_share():
    rng = np.random.default_rng(3)
    luck = rng.normal(1, 0.2, 5)
    base, head = luck + rng.normal(0, 0.001, 5), luck * 1.1 + rng.normal(0, 0.001, 5)
    [paired] = decide([compare_seeds("m", seeds(base), seeds(head), "lower")])
    [unpaired] = decide([compare_seeds("m", seeds(base), seeds(head, first=10), "lower")])
    assert (paired.paired, unpaired.paired) == (True, False)
    assert (paired.verdict, unpaired.verdict) == ("worse", "inconclusive")
    assert paired.p_exact == 2 / 32 == paired.smallest_p
    assert unpaired.p_exact is None
    assert unpaired.smallest_p == pytest.approx(2 / 252)
    some = compare_seeds("m", seeds(base), seeds(head[:4]), "lower")
    assert (some.paired, some.change.n) == (True, 4)


def test_change_is_the_ratio_with_its_paired_interval_and_direction_decides_which_side_is_worse():
    base, head = np.array([1.0, 2.0, 4.0]), np.array([1.2, 2.5, 4.7])
    c = compare_seeds("m", seeds(base), seeds(head), "higher")
    logs = np.log(head / base)
    interval = stats.ttest_1samp(logs, 0).confidence_interval()
    assert c.change[:3] == pytest.approx((np.expm1(logs.mean()), np.expm1(interval.low), np.expm1(interval.high)))
    assert c.p_better == pytest.approx(stats.ttest_1samp(logs, np.log(1.05), alternative="greater").pvalue)
    assert compare_seeds("m", seeds(base), seeds(head), "lower").p_worse == pytest.approx(c.p_better)


def test_values_at_or_below_zero_are_compared_in_shares_of_the_mean_of_base():
    base, head = np.array([-0.1, 0.2, 0.2]), np.array([0.0, 0.35, 0.3])
    c = compare_seeds("kid", seeds(base), seeds(head), "lower")
    assert c.change.value == pytest.approx((head - base).mean() / 0.1)
    absolute = compare_seeds("kid", seeds(base), seeds(head), "lower", margin=0.01, relative=False)
    assert absolute.change.value == pytest.approx((head - base).mean())
    zero = compare_seeds("kid", seeds([0.0, 0.0]), seeds([1.0, 2.0]), "lower")
    assert (zero.verdict, "absolute margin" in zero.reason) == ("not comparable", True)


def drawn(rng, direction, change, n=5, sd=0.1):
    """One comparison of ``n`` seeds a side, log-normal with paired differences of spread ``sd * sqrt(2)`` around ``change``."""
    base, head = np.exp(rng.normal(0, sd, n)), (1 + change) * np.exp(rng.normal(0, sd, n))
    return compare_seeds("m", seeds(base), seeds(head), direction, margin=0.1)


@pytest.mark.parametrize("direction", ["lower", "higher"])
@pytest.mark.parametrize(("judge", "others"), [(decide, 6), (gate, 4)])
def test_detectable_change_is_what_this_verdict_finds_with_eighty_percent(judge, others, direction):
    """Of two sides that truly differ by the printed change, four in five verdicts are `worse`: margin, level and family counted."""
    rng = np.random.default_rng()
    n, sd, draws = 5, 0.1, 1500
    unchanged = [drawn(rng, direction, 0.0, n, sd) for _ in range(others)]
    [planned, *_] = judge([drawn(rng, direction, 0.0, n, sd), *unchanged])
    known = dataclasses.replace(planned.power, spread=sd * 2**0.5)  # the true spread instead of one estimate of it
    level = 0.05 / 2 / (others + 1) if judge is decide else 0.01 / (others + 1)
    assert planned.detectable == pytest.approx(planned.power.finds(level))
    change = known.finds(level)
    assert change > 0.1 if direction == "lower" else change < -0.09
    found = [judge([drawn(rng, direction, change, n, sd), *unchanged])[0].verdict == "worse" for _ in range(draws)]
    assert np.mean(found) == pytest.approx(0.8, abs=5 * (0.16 / draws) ** 0.5)


def test_where_no_change_is_ever_found_it_says_so():
    two = [compare_seeds(f"m{i}", seeds([1, 1.5]), seeds([1.2, 1]), "lower") for i in range(40)]
    for judge in (decide, gate):
        [c, *_] = judge(two)
        assert c.detectable > 1e6
        assert "so few seeds show none at this level, however large" in c.reason
    rates = [compare_seeds(f"m{i}", seeds([1, 1.5]), seeds([1.2, 1]), "higher") for i in range(40)]
    assert "show none at this level" in gate(rates)[0].reason


def test_one_or_two_seeds_say_what_is_missing():
    [one] = decide([compare_seeds("m", {0: 1.0}, {0: 2.0}, "lower")])
    assert (one.verdict, one.change.low, one.detectable) == ("inconclusive", None, None)
    assert "one seed" in one.reason
    single = compare_seeds("m", {0: 1.0}, seeds(np.arange(1.0, 6.0), first=3), "lower")
    assert (single.paired, single.detectable) == (False, None)  # Welch's test needs two a side
    [none] = decide([compare_seeds("m", {0: 1.0}, {}, "lower")])
    assert (none.verdict, none.reason) == ("not comparable", "no completed trial of head has it")


def test_reasons_say_what_could_have_been_found():
    [c] = decide([compare_seeds("m", seeds([1, 1.5, 0.8]), seeds([1.2, 1, 1]), "lower")])
    assert c.verdict == "inconclusive"
    assert f"find a change of +{100 * c.detectable:.3g} % four times in five" in c.reason
    assert f"smallest attainable exact p {c.smallest_p:.2g}" in c.reason


def test_equal_numbers_are_equivalent_and_holm_counts_the_family():
    assert decide([compare_seeds("m", seeds([1, 2, 3]), seeds([1, 2, 3]), "lower")])[0].verdict == "equivalent"
    rng = np.random.default_rng(0)
    borderline = compare_seeds("m", seeds(np.ones(5)), seeds(1.2 + 0.1 * rng.normal(size=5)), "lower")
    assert 0.0005 < borderline.p_worse < 0.02
    others = [
        compare_seeds(f"o{i}", seeds(rng.normal(1, 0.1, 5)), seeds(rng.normal(1, 0.1, 5)), "lower") for i in range(60)
    ]
    assert decide([borderline])[0].verdict == "worse"
    assert decide([borderline, *others])[0].verdict == "inconclusive"
    assert decide([borderline, not_comparable("x", "why")])[1].verdict == "not comparable"


@pytest.mark.parametrize(
    ("base", "head", "direction", "tolerance", "verdict"),
    [
        (1.0, 1.0, "lower", 0.0, "equivalent"), (1.0, 1.0 + 1e-9, "lower", 0.0, "worse"), (1.0, 0.9, "lower", 0.05, "better"),
        (1.0, 0.9, "higher", 0.05, "worse"), (1.0, 1.04, "lower", 0.05, "equivalent"), (1.0, float("nan"), "lower", 9.0, "worse"),
        (1.0, float("nan"), "higher", 9.0, "worse"), (1.0, 1.1, "higher", 0.05, "better"),
    ],
)  # fmt: skip
def test_exact_comparison(base, head, direction, tolerance, verdict):
    assert compare_exact("m", base, head, direction, tolerance).verdict == verdict


def test_what_differs_is_named_with_its_remedy():
    base, head = {"n": 500, "protocol": "a", "x": 1}, {"n": 1000, "protocol": "a", "x": 2}
    assert differing(base, head, ["protocol"]) == ""
    assert differing(base, head, ["n", "protocol", "x"]) == (
        "n differs (500 against 1000): score both with as many samples; x differs (1 against 2): use one x for both"
    )


def test_wrong_input_is_one_sentence():
    with pytest.raises(BenchError, match="no better direction"):
        compare_seeds("m", {0: 1.0}, {0: 1.0}, "none")
    with pytest.raises(BenchError, match="zero or a positive"):
        compare_seeds("m", {0: 1.0}, {0: 1.0}, "lower", margin=-1)
    with pytest.raises(BenchError, match="no better direction"):
        compare_exact("m", 1.0, 1.0, "none")


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_same_value_in_every_seed_is_equivalent_within_any_margin(margin):
    same = {0: 0.2, 1: 0.3, 2: 0.25}
    compared = compare_seeds("kid", same, dict(same), "lower", margin, True)
    for [found] in (decide([compared]), gate([compared])):
        assert (found.verdict, found.reason) == ("equivalent", "the same value in every seed")
    moved = compare_seeds("kid", same, {seed: 2 * value for seed, value in same.items()}, "lower", margin, True)
    assert gate([moved])[0].verdict == "worse"
