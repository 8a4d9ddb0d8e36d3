"""Intervals for few values: what a benchmark with 1 to 20 seeds may honestly say. Pure functions, no I/O.

Every function returns an :class:`Estimate`. Where a 95 % interval cannot be had from so few values, none is given and
``method`` says so; a percentile bootstrap of 3 seeds covers the truth 75 % of the time, not 95 %, so there is none below
``BOOTSTRAP_MINIMUM`` values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bench.errors import BenchError

BOOTSTRAP_MINIMUM = 8
"""Fewer values than this are never bootstrapped."""

_NOT_AN_INTERVAL = frozenset({"none", "min-max", "sampling"})


class Estimate(NamedTuple):
    """A point estimate with the ends of its interval.

    value: the point estimate. low, high: ends of the interval, both None where none can be given.
    n: number of values it rests on.
    method: ``t``, ``welch``, ``paired t``, ``wilson``, ``bootstrap``, ``order statistic`` ...; ``min-max`` (the range of two
        values: *not* a 95 % interval), ``sampling`` (the finite-sample error of one
        trial, blind to retraining) or ``none``.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(low, high) where they are a confidence interval that may separate this estimate from another, else None."""
        if self.low is None or self.high is None or self.method in _NOT_AN_INTERVAL:
            return None
        return self.low, self.high

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean with Student's t interval, ``mean ± t(n-1) s / sqrt(n)`` (Student, "The probable error of a mean", 1908).

    One value gives no interval. Two give their range, labelled ``min-max``: a t interval with one degree of freedom is
    12.7 standard errors wide and tells nobody anything. Raises BenchError for no values or values that are not finite.
    """
    x = finite_values(values, "values")
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(mean, None, None, 1, "none")
    if x.size == 2:
        return Estimate(mean, float(x.min()), float(x.max()), 2, "min-max")
    half = _t_quantile(x.size - 1, level) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Estimate(mean, mean - half, mean + half, int(x.size), "t")


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Estimate:
    """Proportion with the score interval (Wilson, "Probable inference, the law of succession ...", JASA 1927).

    value: ``successes / n``. Stays inside [0, 1] and is honest at 0 and n successes, unlike ``p ± 1.96 se``. Both counts may be
    fractions: effective numbers of examples.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise BenchError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes:g} of {n:g}")
    z = float(special.ndtri(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(p, low, high, int(n), "wilson")


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Any statistic with the *expanded* percentile bootstrap; none below 8 values.

    The plain percentile interval is too short by ``sqrt((n-1)/n)`` and uses z for t. The expanded one takes the percentile
    at ``Phi(-sqrt(n/(n-1)) t(n-1))`` instead of at ``alpha / 2`` (Hesterberg, "What teachers should know about the bootstrap",
    2015, arXiv 1411.5279).

    statistic: ``statistic(x, axis=-1)``, vectorised over leading dimensions as numpy reductions are.
    """
    x = finite_values(values, "values")
    value = float(statistic(x, axis=-1))
    if x.size < BOOTSTRAP_MINIMUM:
        return Estimate(value, None, None, int(x.size), "none")
    draws = np.random.default_rng(seed).integers(x.size, size=(resamples, x.size))
    replicates = statistic(x[draws], axis=-1)
    tail = expanded_tail(x.size, level)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), int(x.size), "bootstrap")


def expanded_tail(n: int, level: float = 0.95) -> float:
    """The tail probability at which a percentile bootstrap of ``n`` values covers ``level`` (arXiv 1411.5279, section 4.5)."""
    return float(special.ndtr(-math.sqrt(n / (n - 1)) * _t_quantile(n - 1, level)))


def median_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Median between two order statistics: exact for any continuous distribution, from the binomial (David & Nagaraja,
    "Order Statistics", 2003, section 7.1). Covers *at least* ``level``; needs 6 values for 95 %, gives none below.
    """
    x = np.sort(finite_values(values, "values"))
    n, median = int(x.size), float(np.median(x))
    # x[k] and x[n - 1 - k] miss the median with probability 2 P(Binomial(n, 1/2) <= k): take the largest k that is allowed.
    allowed = special.bdtr(np.arange(n), n, 0.5) <= (1 - level) / 2
    k = int(allowed.sum()) - 1
    if k < 0:
        return Estimate(median, None, None, n, "none")
    return Estimate(median, float(x[k]), float(x[n - 1 - k]), n, "order statistic")


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of ``second - first``, paired by position (the same seed), with the t interval of the differences.

    As with :func:`t_interval`, one pair gives no interval and two give the range of the two differences.
    """
    a, b = finite_values(first, "first"), finite_values(second, "second")
    if a.size != b.size:
        raise BenchError(
            f"pairing needs as many values on both sides, got {a.size} and {b.size}; use the Welch difference"
        )
    estimate = t_interval(b - a, level)
    return estimate._replace(method="paired t") if estimate.method == "t" else estimate


def welch_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Difference of means ``second - first`` of independent groups, variances not assumed equal (Welch, Biometrika 1947).

    Needs two values on each side for an interval. ``n`` is the number of values on both sides together.
    """
    a, b = finite_values(first, "first"), finite_values(second, "second")
    difference, n = float(b.mean() - a.mean()), int(a.size + b.size)
    if min(a.size, b.size) < 2:
        return Estimate(difference, None, None, n, "none")
    variance_a, variance_b = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    variance = float(variance_a + variance_b)
    if variance == 0.0:
        return Estimate(difference, difference, difference, n, "welch")
    freedom = welch_freedom(variance_a, a.size, variance_b, b.size)
    half = _t_quantile(freedom, level) * math.sqrt(variance)
    return Estimate(difference, difference - half, difference + half, n, "welch")


def welch_freedom(variance_a: float, n_a: int, variance_b: float, n_b: int) -> float:
    """Welch-Satterthwaite degrees of freedom; the variances are those of the *means*, ``s² / n``."""
    total = variance_a + variance_b
    share_a, share_b = variance_a / total, variance_b / total  # shares, so that tiny variances do not underflow
    return float(1 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1)))


def _t_quantile(freedom: float, level: float) -> float:
    return float(special.stdtrit(freedom, 0.5 + level / 2))


def finite_values(values: ArrayLike | Sequence[float], name: str) -> np.ndarray:
    """``values`` as a float64 vector; BenchError, naming them, where there is none or one is not finite."""
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0:
        raise BenchError(f"'{name}' holds no value; an interval needs at least one")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise BenchError(
            f"'{name}' holds {bad} of {x.size} values that are not finite; leave failed trials out and report them"
        )
    return x
