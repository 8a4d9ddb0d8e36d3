"""The median of censored, bracketed times: known cases, and the coverage that it claims."""

import math

import numpy as np
import pytest

from bench.errors import BenchError
from bench.stats.intervals import median_interval
from bench.stats.survival import censored_median


def test_exact_times_give_the_interval_of_the_median():
    times = np.random.default_rng().exponential(size=20)
    found, plain = censored_median(times, times), median_interval(times)
    assert found == plain


def test_half_must_have_come():
    assert censored_median([0, 0, 5], [1, 2, math.inf]).value == 2
    assert censored_median([0, 5, 5], [1, math.inf, math.inf]).value == math.inf
    assert censored_median([0, 5], [1, math.inf]).value == math.inf
    few = censored_median([0] * 5, [1] * 5)
    assert few.bounds is None
    assert few.value == 1
    for low, high in (([], []), ([1], [0]), ([1], [1, 2])):
        with pytest.raises(BenchError, match="bracket"):
            censored_median(low, high)


def test_its_interval_covers_under_censoring_and_in_brackets():
    """Exponential times seen at eleven looks until 1.5 medians, 9 runs each: the exact binomial coverage is 96 %, brackets add to it."""
    rng = np.random.default_rng()
    looks = np.concatenate([[0.0], 1.5 * math.log(2) * 2.0 ** np.arange(-10, 1)])
    hits, repetitions = 0, 2000
    for _ in range(repetitions):
        times = rng.exponential(size=9)
        place = np.searchsorted(looks, times)
        high = np.append(looks, math.inf)[place]
        low = looks[np.minimum(place, looks.size) - 1]
        found = censored_median(low, high)
        hits += found.low <= math.log(2) <= found.high
    assert hits / repetitions >= 0.95 - 5 * math.sqrt(0.95 * 0.05 / repetitions)
