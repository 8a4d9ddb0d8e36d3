"""The gate on a simulated noisy machine: false alarms, power, noise control; and its verdicts on plain numbers."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.stats.gate import (
    FIRST_BLOCKS,
    SECOND_BLOCKS,
    exit_code,
    judge,
    noise_margin,
    open_after_first,
    worsening,
)
from bench.stats.intervals import wilson_interval

from .machine import differences, one_after_the_other


def run_gate(rng, slower, margin=0.05):
    """Both stages of one gate: (decisions, number of metrics that needed the second stage)."""
    names = [f"metric {i}" for i in range(len(slower))]
    margins = dict.fromkeys(names, margin)
    first = dict(zip(names, differences(rng, FIRST_BLOCKS, slower)))
    again = open_after_first(first, margins)
    fresh = dict(zip(names, differences(rng, SECOND_BLOCKS, slower)))
    return judge(first, {name: fresh[name] for name in again}, margins), len(again)


def gates(slower, runs, seed):
    rng = np.random.default_rng(seed)
    return [run_gate(rng, np.asarray(slower)) for _ in range(runs)]


def alarms(outcomes, metrics=slice(None)):
    return sum(any(d.verdict == "worse" for d in decisions[metrics]) for decisions, _ in outcomes)


def test_unchanged_versions_raise_no_alarm():
    """20 gated metrics: family-wise rate at most 1 %. The same machine, mean > 10 % against a stored number: most runs alarm."""
    runs = 300
    outcomes = gates(np.ones(20), runs, seed=1)
    assert wilson_interval(alarms(outcomes), runs).low <= 0.01
    assert alarms(outcomes) <= 3
    inconclusive = sum(d.verdict == "inconclusive" for decisions, _ in outcomes for d in decisions)
    assert inconclusive / (20 * runs) < 0.01
    assert sum(again for _, again in outcomes) / runs < 1.0  # most runs end after the first stage


def test_at_the_margin_exactly_the_family_wise_rate_is_kept():
    outcomes = gates(np.full(20, 1.05), 150, seed=2)
    assert alarms(outcomes) <= 5  # P(more than 5 | rate 1 %) = 0.4 %


def test_what_is_worse_by_just_its_margin_passes_in_one_gate_of_twenty():
    """Over both stages together: each passes it at 2.5 %."""
    outcomes = gates(np.full(20, 1.05), 150, seed=4)
    passed = sum(d.verdict in ("equivalent", "better") for decisions, _ in outcomes for d in decisions)
    assert passed / (20 * 150) <= 0.06  # 5 %, and three standard errors of 3000 decisions


@pytest.mark.parametrize(("slower", "least"), [(1.10, 0.80), (1.15, 0.92), (1.20, 0.95)])
def test_a_planted_slowdown_is_caught_and_its_neighbours_are_not_blamed(slower, least):
    outcomes = gates(np.r_[slower, np.ones(19)], 150, seed=3)
    assert alarms(outcomes, slice(0, 1)) / 150 >= least
    assert alarms(outcomes, slice(1, None)) <= 5


def test_the_rules_of_other_tools_alarm_on_the_same_machine():
    """Sequential arms, unchanged code: a percentage of the mean, and Mann-Whitney at .05, both far above their nominal rate."""
    from scipy import stats

    rng = np.random.default_rng(4)
    percent = mann_whitney = 0
    for _ in range(300):
        base, head = one_after_the_other(rng, 40)
        percent += np.exp(head).mean() > 1.05 * np.exp(base).mean()
        mann_whitney += stats.mannwhitneyu(head, base).pvalue < 0.05
    assert percent / 300 > 0.08
    assert mann_whitney / 300 > 0.2


def test_estimate_and_interval_of_the_change():
    rng = np.random.default_rng(5)
    covered, estimates = 0, []
    for _ in range(300):
        [decision] = judge({"t": differences(rng, 14, np.array([1.1]))[0]}, {}, {"t": 0.05})
        covered += decision.change.low <= 0.1 <= decision.change.high
        estimates.append(decision.change.value)
    assert covered / 300 >= 0.92
    assert np.mean(estimates) == pytest.approx(0.1, abs=0.005)


def quiet(centre, n, spread=0.005):
    return centre + spread * np.linspace(-1, 1, n)


def test_verdicts():
    margins = dict.fromkeys("abcd", 0.05)
    first = {"a": quiet(0, 8), "b": quiet(0.2, 8), "c": quiet(-0.2, 8), "d": quiet(0.045, 8, spread=0.1)}
    assert open_after_first(first, margins) == ["b", "d"]
    before = {d.metric: d for d in judge(first, {}, margins)}
    assert [before[m].verdict for m in "abcd"] == ["equivalent", "inconclusive", "better", "inconclusive"]
    assert "second stage" in before["b"].reason
    after = {d.metric: d for d in judge(first, {"b": quiet(0.2, 14), "d": quiet(0.045, 14, 0.1)}, margins)}
    assert [after[m].verdict for m in "abcd"] == ["equivalent", "worse", "better", "inconclusive"]
    assert after["b"].change.value == pytest.approx(np.expm1(0.2))
    assert (after["b"].blocks, after["a"].blocks) == (14, 8)
    assert after["b"].p == 2**-14
    assert after["b"].p_adjusted == 4 * 2**-14
    assert exit_code(list(after.values())) == 1
    assert exit_code([after["a"], after["d"]]) == 4
    assert exit_code([after["a"], after["c"]]) == 0


def test_a_noisy_machine_withdraws_the_alarm():
    first, second, margins = {"a": quiet(0.2, 8)}, {"a": quiet(0.2, 14)}, {"a": 0.05}
    [noisy] = judge(first, second, margins, control={"a": [0.04]})
    assert noisy.verdict == "inconclusive"
    assert "base differs from itself by 4.1%" in noisy.reason
    [calm] = judge(first, second, margins, control={"a": [0.01, -0.01]})
    assert calm.verdict == "worse"


def test_too_few_blocks_can_never_alarm():
    assert judge({"a": quiet(1, 8)}, {"a": quiet(1, 5)}, {"a": 0.05})[0].verdict == "inconclusive"


def test_noise_margin_grows_with_the_machine():
    rng = np.random.default_rng(6)
    assert noise_margin(rng.normal(0, 0.001, 50)) == 0.05
    assert noise_margin(rng.normal(0, 0.1, 5000)) == pytest.approx(np.expm1(0.2), rel=0.06)


def test_worsening_is_positive_where_the_head_is_worse():
    assert worsening([1.0, 2.0], [2.0, 2.0], "lower") == pytest.approx([np.log(2), 0])
    assert worsening([100.0], [50.0], "higher") == pytest.approx([np.log(2)])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: worsening([1.0], [1.0, 2.0], "lower"), "1 values of base and 2 of head"),
        (lambda: worsening([0.0], [1.0], "lower"), "zero or below"),
        (lambda: worsening([1.0], [1.0], "none"), "'higher' or 'lower'"),
        (lambda: open_after_first({"a": [0.0]}, {}), "no margin for 'a'"),
        (lambda: open_after_first({"a": [0.0]}, {"a": 0.0}), "positive share"),
        (lambda: judge({"a": [0.0]}, {"b": [0.0]}, {"a": 0.05, "b": 0.05}), "measured 'b'"),
    ],
)
def test_wrong_input_is_one_sentence(call, says):
    with pytest.raises(BenchError, match=says):
        call()
