"""Change points: the statistic by brute force, false-alarm rate and power by simulation, merging and edges."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.stats.changepoint import MINIMUM_SEGMENT, ChangePoint, best_split, change_points


def split_by_hand(x):
    """Straight from the definition."""
    best = (-np.inf, 0)
    for m in range(MINIMUM_SEGMENT, len(x) - MINIMUM_SEGMENT + 1):
        a, b = x[:m], x[m:]
        k = len(b)
        across = np.mean([abs(u - v) for u in a for v in b])
        within_a = np.mean([abs(a[i] - a[j]) for i in range(m) for j in range(m) if i != j])
        within_b = np.mean([abs(b[i] - b[j]) for i in range(k) for j in range(k) if i != j])
        best = max(best, (m * k / (m + k) * (2 * across - within_a - within_b), m))
    return best


def test_best_split_is_the_energy_statistic_of_the_paper():
    rng = np.random.default_rng()
    series = rng.normal(size=(5, 14)) + np.r_[np.zeros(6), np.full(8, 0.7)]
    statistic, place = best_split(series)
    for row, s, at in zip(series, statistic, place):
        assert (s, at) == pytest.approx(split_by_hand(row))


@pytest.mark.parametrize(
    "draw", [lambda rng: rng.normal(1, 0.05, 30), lambda rng: rng.lognormal(0, 0.5, 30)], ids=["normal", "skewed"]
)
def test_an_unchanged_series_has_no_change_point(draw):
    """At alpha .05, where the rate can be told from zero: 300 series."""
    rng = np.random.default_rng(1)
    alarms = sum(bool(change_points(draw(rng), alpha=0.05, permutations=199)) for _ in range(300))
    assert alarms / 300 <= 0.05 + 4 * (0.05 / 300) ** 0.5


@pytest.mark.parametrize(
    ("spread", "step", "least"), [(0.02, 0.1, 0.95), (0.05, 0.1, 0.8), (0.05, 0.2, 0.95), (0.10, 0.2, 0.7)]
)
def test_a_step_in_thirty_points_is_found_where_it_is(spread, step, least):
    """asv 0.6.6 (detect_steps) finds .67, .04, .47 and .05 of these."""
    rng = np.random.default_rng(2)
    found = near = 0
    for _ in range(40):
        points = change_points(np.r_[rng.normal(1, spread, 15), rng.normal(1 + step, spread, 15)], permutations=199)
        found += bool(points)
        near += any(abs(point.at - 15) <= 2 for point in points)
    assert found / 40 >= least
    assert near >= 0.8 * found


def test_several_steps_with_their_levels():
    rng = np.random.default_rng(3)
    x = np.r_[rng.normal(10, 0.1, 15), rng.normal(12, 0.1, 15), rng.normal(9, 0.1, 15)]
    first, second = change_points(x)
    assert (first.at, second.at) == (15, 30)
    assert first.change == pytest.approx(0.2, abs=0.02)
    assert second.change == pytest.approx(-0.25, abs=0.02)
    assert first.p <= 0.01
    assert change_points(x) == [first, second]  # seeded


def test_changes_below_the_magnitude_are_merged_away():
    rng = np.random.default_rng(4)
    x = np.r_[rng.normal(10, 0.01, 15), rng.normal(10.2, 0.01, 15), rng.normal(13, 0.01, 15)]
    assert [p.at for p in change_points(x)] == [15, 30]
    [kept] = change_points(x, magnitude=0.05)
    assert kept.at == 30
    assert kept.before == pytest.approx(10.1, abs=0.15)


def test_one_outlier_is_no_change_of_level():
    rng = np.random.default_rng(5)
    x = rng.normal(1, 0.02, 30)
    x[12] = 3.0
    assert not change_points(x)


def test_short_and_constant_series():
    assert change_points([1.0, 2.0, 3.0]) == []
    assert change_points([5.0] * 40) == []
    [step] = change_points([0.0] * 10 + [1.0] * 10)
    assert (step.at, step.change) == (10, np.inf)


def test_wrong_input_is_one_sentence():
    with pytest.raises(BenchError, match="alpha"):
        change_points([1, 2, 3], alpha=0)
    with pytest.raises(BenchError, match="not finite"):
        change_points([1, np.nan, 3])


def test_a_level_that_stays_at_zero_has_not_changed():
    assert ChangePoint(3, 0.0, 0.0, 0.01).change == 0.0
    assert ChangePoint(3, 0.0, -2.0, 0.01).change == -np.inf
