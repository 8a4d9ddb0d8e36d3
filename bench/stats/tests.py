"""Hypothesis tests for few paired or independent values, against a margin, and what they could have found at all.

Pure functions, no I/O. ``margin`` shifts the null hypothesis: with ``alternative="greater"`` the hypothesis tested is
"the difference is at most ``margin``", so that a small but harmless difference is not an alarm.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from bench.errors import BenchError
from bench.stats.intervals import Estimate, finite_values, welch_freedom

Alternative = Literal["greater", "less", "two-sided"]

EXACT_LIMIT = 16
"""Up to this many differences all ``2**n`` sign flips are counted; above it, ``RANDOM_SUBSETS`` random ones."""

RANDOM_SUBSETS = 2**16 - 1


class Significance(NamedTuple):
    """p: the p-value. smallest: the smallest p-value that data of this size can give; above alpha nothing can be found.
    n: number of values used. method: name of the test."""

    p: float
    smallest: float
    n: int
    method: str


def sign_flip_test(
    differences: ArrayLike, margin: float = 0.0, alternative: Alternative = "greater", seed: int = 0
) -> Significance:
    """Exact test of the centre of symmetric differences: every flip of signs of ``d - margin`` is equally likely under H0.

    No normality, no variance estimate (Fisher, "The design of experiments", 1935, section 21; as a test of blocks or pairs by
    seed). The flips whose sum reaches the observed one are those of the subsets whose mean is at most ``margin``, so p-value
    and :func:`sign_flip_interval` come from the same subset means and always agree.

    differences: ``(n,)``, second minus first. With n > 16 random subsets keep the test exact (Phipson & Smyth, "Permutation
    p-values should never be zero", 2010, arXiv 1603.05766); ``seed`` draws them.
    """
    d = finite_values(differences, "differences")
    means, total = subset_means(d, seed)
    slack = 1e-12 * max(float(np.abs(d).max()), abs(margin))  # equal sums must count as equal, whatever the unit
    greater = (1 + int((means <= margin + slack).sum())) / total
    less = (1 + int((means >= margin - slack).sum())) / total
    p = {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}
    if alternative not in p:
        raise BenchError(f"an alternative is 'greater', 'less' or 'two-sided', got '{alternative}'")
    return Significance(p[alternative], (2 if alternative == "two-sided" else 1) / total, int(d.size), "sign flip")


def sign_flip_interval(differences: ArrayLike, level: float = 0.95, seed: int = 0) -> Estimate:
    """Interval of the centre of symmetric differences by inversion of the sign-flip test, around the Hodges-Lehmann estimate.

    The ends are order statistics of the means of all subsets, which makes the coverage exact for any symmetric distribution
    (Hartigan, "Using subsample values as typical values", JASA 1969). None is given where even the extremes do not reach
    ``level``: 95 % needs 6 differences.
    """
    d = finite_values(differences, "differences")
    means, total = subset_means(d, seed)
    rank = math.floor((1 - level) / 2 * total + 1e-9)
    value = hodges_lehmann(d)
    if rank < 1:
        return Estimate(value, None, None, int(d.size), "none")
    means = np.sort(means)
    return Estimate(value, float(means[rank - 1]), float(means[-rank]), int(d.size), "sign flip")


def hodges_lehmann(differences: ArrayLike) -> float:
    """Median of all pairwise means: robust to outliers, 95 % efficient for normal data (Hodges & Lehmann, AMS 1963)."""
    d = finite_values(differences, "differences")
    i, j = np.triu_indices(d.size)
    return float(np.median((d[i] + d[j]) / 2))


def subset_means(d: np.ndarray, seed: int = 0) -> tuple[np.ndarray, int]:
    """(means of the non-empty subsets of ``d``, number of equally likely places among them): all of them, or random ones."""
    if d.size <= EXACT_LIMIT:
        members, sizes = _subsets(d.size)
        return members @ d / sizes, 2**d.size
    rng = np.random.default_rng(seed)
    members = rng.random((RANDOM_SUBSETS, d.size)) < 0.5
    members = members[members.any(axis=1)]
    return members @ d / members.sum(axis=1), len(members) + 1


@functools.lru_cache(maxsize=4)
def _subsets(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Membership ``(2**n - 1, n)`` and sizes of all non-empty subsets."""
    members = (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(float)
    return members, members.sum(axis=1)


def paired_t_test(
    first: ArrayLike, second: ArrayLike, margin: float = 0.0, alternative: Alternative = "two-sided"
) -> Significance:
    """Student's t test of ``mean(second - first) = margin``, paired by position. Needs two pairs."""
    a, b = finite_values(first, "first"), finite_values(second, "second")
    if a.size != b.size:
        raise BenchError(f"pairing needs as many values on both sides, got {a.size} and {b.size}; use the Welch test")
    if a.size < 2:
        return Significance(1.0, 1.0, 1, "paired t")
    d = b - a
    p = _t_p(float(d.mean()) - margin, float(d.std(ddof=1)) / math.sqrt(d.size), d.size - 1, alternative)
    return Significance(p, 0.0, int(d.size), "paired t")


def welch_test(
    first: ArrayLike, second: ArrayLike, margin: float = 0.0, alternative: Alternative = "two-sided"
) -> Significance:
    """Welch's t test of ``mean(second) - mean(first) = margin``, variances not assumed equal. Needs two values a side."""
    a, b = finite_values(first, "first"), finite_values(second, "second")
    n = int(a.size + b.size)
    if min(a.size, b.size) < 2:
        return Significance(1.0, 1.0, n, "welch")
    variance_a, variance_b = float(a.var(ddof=1)) / a.size, float(b.var(ddof=1)) / b.size
    error = math.sqrt(variance_a + variance_b)
    freedom = welch_freedom(variance_a, a.size, variance_b, b.size) if error > 0 else 1.0
    return Significance(_t_p(float(b.mean() - a.mean()) - margin, error, freedom, alternative), 0.0, n, "welch")


def smallest_p(n: int, m: int | None = None, alternative: Alternative = "two-sided") -> float:
    """The smallest p-value of an exact test: ``n`` pairs (sign flips), or ``n`` against ``m`` independent values (permutations).

    Three seeds against three can never be significant at 5 %: two-sided 0.1. Five against five can: 0.008.
    """
    arrangements = 2.0**n if m is None else float(special.binom(n + m, n))
    return min(1.0, (2 if alternative == "two-sided" else 1) / arrangements)


def minimum_detectable_effect(
    sd: float,
    n: int,
    m: int | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    alternative: Alternative = "two-sided",
) -> float | None:
    """The true difference that a t test finds with probability ``power``: what "no difference found" can rule out.

    sd: standard deviation of the paired differences, or with ``m`` of the single values (taken equal on both sides).
    n: number of pairs, or of values on the first side; m: on the second. None with no degree of freedom left; infinite where
    ``alpha`` is too small for any difference. Solves the noncentral t distribution (Cohen, "Statistical power analysis", 1988,
    section 2).
    """
    freedom, error = (n - 1, sd / math.sqrt(n)) if m is None else (n + m - 2, sd * math.sqrt(1 / n + 1 / m))
    if freedom < 1 or not math.isfinite(sd):
        return None
    if sd == 0:
        return 0.0
    return error * _centre(freedom, alpha / (2 if alternative == "two-sided" else 1), power)


@functools.lru_cache(maxsize=256)
def _centre(freedom: int, level: float, power: float) -> float:
    """The noncentrality at which a one-sided t test at ``level`` rejects with probability ``power``; infinite where none does."""
    critical = -float(special.stdtrit(freedom, level))
    end = 3 * critical + 10
    if not math.isfinite(critical) or _exceeds(critical, end, freedom) < power:
        return math.inf
    return float(optimize.brentq(lambda centre: power - _exceeds(critical, centre, freedom), 0.0, end))


_NORMAL = np.linspace(-8.0, 8.0, 801)


def _exceeds(critical: float, noncentrality: float, freedom: float) -> float:
    """P(noncentral t > ``critical``), ``critical`` > 0: that of a standard normal ``z`` and a chi ``s`` with ``s < (z + centre) / critical``.

    Integrated over ``z``, which holds where the series of scipy's nctdtr gives NaN: one degree of freedom, tiny alpha.
    """
    chi = np.maximum(_NORMAL + noncentrality, 0.0) / critical
    density = np.exp(-(_NORMAL**2) / 2) / math.sqrt(2 * math.pi)
    return float((density * special.chdtr(freedom, freedom * chi**2)).sum() * (_NORMAL[1] - _NORMAL[0]))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p-values that control the chance of *any* false alarm in the family (Holm, Scand. J. Statist. 1979).

    Reject where the adjusted value is at most alpha. Holds under any dependence. Returns ``(m,)`` in the order given.
    """
    p = np.asarray(p_values, dtype=float)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise BenchError("p-values lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _t_p(difference: float, error: float, freedom: float, alternative: Alternative) -> float:
    if error == 0:  # all differences equal: certain, one way or the other
        upper, lower = (1.0 if difference <= 0 else 0.0), (1.0 if difference >= 0 else 0.0)
    else:
        upper, lower = (float(special.stdtr(freedom, sign * difference / error)) for sign in (-1, 1))
    p = {"greater": upper, "less": lower, "two-sided": min(1.0, 2 * min(upper, lower))}
    if alternative not in p:
        raise BenchError(f"an alternative is 'greater', 'less' or 'two-sided', got '{alternative}'")
    return p[alternative]
