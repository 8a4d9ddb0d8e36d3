"""95 % intervals for the statistics that metrics are made of: means, ratios of means, proportions, areas under a curve.

Each was chosen by simulated coverage (``bench.coverage``), skewed distributions included.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bench.record import Direction, Measurement
from bench.stats.intervals import median_interval, wilson_interval

SMALLEST_N = 30
"""Below this many examples no interval for a mean is offered: with skewed values it would cover too seldom."""

FEWEST_DIFFERENT = 10
"""A mean of values that are all alike but for fewer than these has no interval: how rare the others are cannot be told."""

SKEW_CORRECTED_T = "t, skewness-corrected"


def skewness_corrected_t(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of ``(n,)`` values, by Hall's cubic transformation of the t statistic.

    The plain t interval of a mean covers 79 % where values are lognormal (sigma 1.5) and n = 30; this one 90 %, and 95 %
    where they are normal. Source: "On the Removal of Skewness by Transformation", Hall 1992 (JRSS B 54:221).
    """
    n = len(values)
    mean, sd = values.mean(), values.std(ddof=1)
    if sd == 0:
        return float(mean), float(mean)
    standardised = (values - mean) / values.std()
    a = float((standardised**3).mean()) / np.sqrt(n)
    t = float(stats.t.ppf(0.975, n - 1))
    upper, lower = _undo_skewness(t, a), _undo_skewness(-t, a)
    return float(mean - upper * sd / np.sqrt(n)), float(mean - lower * sd / np.sqrt(n))


def _undo_skewness(y: float, a: float) -> float:
    """The inverse of g(t) = t + a t^2/3 + a^2 t^3/27 + a/6, with a = skewness / sqrt(n)."""
    if abs(a) < 1e-8:
        return y
    return float(3 / a * (np.cbrt(1 + a * (y - a / 6)) - 1))


def mean_of(values: ArrayLike, *, name: str, unit: str = "1", direction: Direction = "lower") -> Measurement:
    """The mean of independent per-example values ``(n,)`` with its skewness-corrected t interval.

    No interval for n < 30, where a value is infinite or NaN, or where all but some few are equal; ``note`` says so.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    n = len(array)
    point = float(array.mean()) if n else float("nan")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        note = f"{bad} of {n} values are infinite or NaN: no interval"
        return Measurement(point, name=name, n=n, unit=unit, direction=direction, note=note)
    if n < SMALLEST_N:
        note = f"no interval: n = {n} is below {SMALLEST_N}"
        return Measurement(point, name=name, n=n, unit=unit, direction=direction, note=note)
    different = differing(array)
    if different < FEWEST_DIFFERENT:
        note = (
            f"no interval: all but {different} of {n} values are equal"
            if different
            else f"no interval: all {n} values are equal"
        )
        return Measurement(point, name=name, n=n, unit=unit, direction=direction, note=note)
    low, high = skewness_corrected_t(array)
    return Measurement(
        point, name=name, low=low, high=high, n=n, unit=unit, direction=direction, interval=SKEW_CORRECTED_T
    )


def differing(values: np.ndarray) -> int:
    """How many of the values ``(n,)`` differ from the commonest one."""
    return len(values) - int(np.unique(values, return_counts=True)[1].max())


def ratio_of_means(
    numerator: ArrayLike, denominator: ArrayLike, *, name: str, unit: str = "1", direction: Direction = "lower"
) -> Measurement:
    """mean(numerator) / mean(denominator) of paired positive values ``(n,)``, interval by linearisation (delta method)."""
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    ratio = top.mean() / bottom.mean()
    return mean_of(ratio + (top - ratio * bottom) / bottom.mean(), name=name, unit=unit, direction=direction)


def proportion_of(hits: ArrayLike, *, name: str, direction: Direction = "higher") -> Measurement:
    """The share of True in independent booleans ``(n,)`` with its Wilson interval."""
    array = np.asarray(hits, dtype=bool).ravel()
    n = len(array)
    if n == 0:
        return Measurement(float("nan"), name=name, n=0, direction=direction, note="no example to count")
    share = wilson_interval(int(array.sum()), n)
    return Measurement(
        share.value, name=name, low=share.low, high=share.high, n=n, direction=direction, interval="wilson"
    )


def area_under_roc(negatives: ArrayLike, positives: ArrayLike, *, name: str) -> Measurement:
    """P(positive score > negative score) + P(equal)/2, with DeLong's interval on the logit scale.

    negatives ``(m,)``, positives ``(n,)``: scores, larger meaning "more positive". No interval where the two are perfectly
    separated, nor below 20 of either. "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
    Curves", DeLong, DeLong, Clarke-Pearson 1988; midranks as in Sun and Xu 2014.
    """
    x, y = np.ravel(negatives), np.ravel(positives)
    m, n = len(x), len(y)
    auc, variance = auc_and_variance(x, y)
    if min(m, n) < 20:
        note = f"no interval: {m} and {n} scores, at least 20 of each are needed"
        return Measurement(auc, name=name, n=m + n, direction="higher", note=note)
    if variance == 0 or auc in (0.0, 1.0):
        note = "no interval: the scores are perfectly separated"
        return Measurement(auc, name=name, n=m + n, direction="higher", note=note)
    half = float(stats.norm.ppf(0.975)) * np.sqrt(variance) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    low, high = (float(1 / (1 + np.exp(-end))) for end in (logit - half, logit + half))
    return Measurement(auc, name=name, low=low, high=high, n=m + n, direction="higher", interval="delong, logit")


def auc_and_variance(negatives: ArrayLike, positives: ArrayLike) -> tuple[float, float]:
    """P(positive > negative) + P(equal)/2 of scores ``(m,)`` and ``(n,)``, and DeLong's estimate of its variance."""
    x = np.asarray(negatives, dtype=np.float64).ravel()
    y = np.asarray(positives, dtype=np.float64).ravel()
    m, n = len(x), len(y)
    ranks = stats.rankdata(np.concatenate([x, y]))
    below = (ranks[m:] - stats.rankdata(y)) / m  # for each positive, the share of negatives under it
    above = 1 - (ranks[:m] - stats.rankdata(x)) / n  # for each negative, the share of positives over it
    if min(m, n) < 2:
        return float(below.mean()), float("nan")
    return float(below.mean()), float(below.var(ddof=1) / n + above.var(ddof=1) / m)


def difference_of_proportions(
    first: ArrayLike, second: ArrayLike, *, name: str, direction: Direction = "lower"
) -> Measurement:
    """Share of True in ``first`` less that in ``second`` (independent booleans), Newcombe's hybrid score interval.

    "Interval Estimation for the Difference Between Independent Proportions", Newcombe 1998 (method 10).
    """
    a, b = np.asarray(first, dtype=bool).ravel(), np.asarray(second, dtype=bool).ravel()
    p, q = float(a.mean()), float(b.mean())
    low, high = newcombe(p, len(a), q, len(b))
    return Measurement(p - q, name=name, low=low, high=high, n=len(a), direction=direction, interval="newcombe")


def newcombe(p: float, n: float, q: float, m: float) -> tuple[float, float]:
    """95 % interval of the difference of two independent proportions ``p`` of ``n`` and ``q`` of ``m``."""
    first, second = wilson_interval(p * n, n), wilson_interval(q * m, m)
    assert first.bounds
    assert second.bounds
    (low_p, high_p), (low_q, high_q) = first.bounds, second.bounds
    return p - q - float(np.hypot(p - low_p, high_q - q)), p - q + float(np.hypot(high_p - p, q - low_q))


def ratio_of_medians(
    numerator: ArrayLike, denominator: ArrayLike, *, name: str, direction: Direction = "none"
) -> Measurement:
    """median(numerator) / median(denominator) of two independent non-negative samples.

    Interval: the two order-statistic intervals combined on the log scale by MOVER ("Construction of Confidence Limits about
    Effect Measures", Donner and Zou 2012). None below 30 values of either, nor where a median's interval reaches 0.
    """
    top, bottom = median_interval(numerator), median_interval(denominator)
    n, smaller = top.n, min(top.n, bottom.n)
    value = top.value / bottom.value if bottom.value else float("nan")
    plain = Measurement(value, name=name, n=n, direction=direction)
    if smaller < SMALLEST_N:
        return plain.replace(note=f"no interval: {smaller} values are below {SMALLEST_N}")
    assert top.bounds
    assert bottom.bounds
    if not (top.bounds[0] > 0 and bottom.bounds[0] > 0):
        return plain.replace(note="no interval: a median is at 0")
    (top_low, top_high), (bottom_low, bottom_high) = top.bounds, bottom.bounds
    down = np.hypot(np.log(top.value / top_low), np.log(bottom_high / bottom.value))
    up = np.hypot(np.log(top_high / top.value), np.log(bottom.value / bottom_low))
    return plain.replace(
        low=float(value * np.exp(-down)), high=float(value * np.exp(up)), interval="order statistics, MOVER on log"
    )


class Jackknife(NamedTuple):
    """A statistic freed of its bias of order 1/n: ``corrected``, its standard error ``se`` and the ``bias`` removed."""

    corrected: float
    se: float
    bias: float
    blocks: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % t interval around the corrected statistic, blocks - 1 degrees of freedom."""
        half = float(stats.t.ppf(0.975, self.blocks - 1)) * self.se
        return self.corrected - half, self.corrected + half


def block_jackknife(whole: float, left_out: ArrayLike) -> Jackknife:
    """Bias and standard error of a statistic from its values with one of K equal blocks of examples left out each time.

    whole: the statistic of all examples; left_out ``(K,)``. "Bias and Confidence in Not-quite Large Samples", Tukey 1958.
    """
    without = np.asarray(left_out, dtype=np.float64)
    blocks = len(without)
    pseudo_values = blocks * whole - (blocks - 1) * without
    corrected = float(pseudo_values.mean())
    return Jackknife(corrected, float(pseudo_values.std(ddof=1) / np.sqrt(blocks)), whole - corrected, blocks)
