"""Rank ranges and the interval-aware Pareto front."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.stats.intervals import Estimate, t_interval
from bench.stats.ranking import beats, pareto_front, rank_ranges


def point(value, half=0.0, method="t"):
    return Estimate(value, value - half, value + half, 3, method)


def test_beats_needs_disjoint_intervals_in_the_right_direction():
    assert beats(point(1, 0.4), point(2, 0.5), "lower")
    assert not beats(point(1, 0.5), point(2, 0.5), "lower")  # they touch
    assert not beats(point(1, 0.4), point(2, 0.5), "higher")
    assert beats(point(2, 0.5), point(1, 0.4), "higher")
    with pytest.raises(BenchError, match="'higher' or 'lower'"):
        beats(point(1), point(2), "none")


@pytest.mark.parametrize("method", ["none", "min-max", "sampling"])
def test_one_or_two_seeds_separate_nothing(method):
    weak = point(1, 0.01, method)
    assert not beats(weak, point(9), "lower")
    assert not beats(point(9), weak, "higher")
    assert rank_ranges([weak, point(5), point(9)], "lower") == [(1, 3), (1, 2), (2, 3)]


def test_rank_ranges_of_separate_and_overlapping_intervals():
    estimates = [point(1, 0.5), point(1.8, 0.5), point(2.6, 0.5), point(9, 0.5)]
    assert rank_ranges(estimates, "lower") == [(1, 2), (1, 3), (2, 3), (4, 4)]
    assert rank_ranges(estimates, "higher") == [(3, 4), (2, 4), (2, 3), (1, 1)]
    assert rank_ranges([], "lower") == []


def test_true_rank_lies_in_the_range_at_least_as_often_as_stated():
    rng = np.random.default_rng(0)
    truth, hits, draws = np.array([1.0, 1.2, 1.5, 3.0]), 0, 600
    for _ in range(draws):
        ranges = rank_ranges([t_interval(rng.normal(mu, 0.1, 4)) for mu in truth], "lower")
        hits += all(low <= i + 1 <= high for i, (low, high) in enumerate(ranges))
    assert hits / draws >= 0.95  # all four at once


def test_pareto_front_with_exact_numbers_is_the_ordinary_one():
    rng = np.random.default_rng()
    values = rng.integers(0, 6, size=(25, 3)).astype(float)
    directions = ["lower", "higher", "lower"]
    signed = values * [1, -1, 1]
    expected = [not any((other <= row).all() and (other < row).any() for other in signed) for row in signed]
    assert pareto_front([[point(v) for v in row] for row in values], directions) == expected


def test_a_point_inside_the_noise_stays_on_the_front():
    quality_speed = [[point(1, 0.2), point(100, 1)], [point(1.3, 0.2), point(99.5, 1)], [point(2, 0.2), point(99, 1)]]
    assert pareto_front(quality_speed, ["lower", "higher"]) == [True, True, False]


def test_a_circle_of_dominance_does_not_empty_the_front():
    a, b, c = [point(1), point(5, 4), point(9)], [point(9), point(1), point(5, 4)], [point(5, 4), point(9), point(1)]
    directions = ["lower", "lower", "lower"]
    front = pareto_front([a, b, c], directions)
    assert front == [True, True, True]
    outside = [point(20), point(20), point(20)]
    assert pareto_front([a, b, c, outside], directions) == [True, True, True, False]


def test_rows_and_directions_must_match():
    with pytest.raises(BenchError, match="2 objectives, but 1"):
        pareto_front([[point(1), point(2)]], ["lower"])
