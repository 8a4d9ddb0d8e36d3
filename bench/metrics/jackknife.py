"""95 % intervals for statistics of two samples from the influence of each example (delete-one jackknife)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def half_width(influences: Sequence[np.ndarray], second_order: float = 0.0) -> float:
    """Half the width of the 95 % interval of a statistic of independent samples: Student quantile times standard error."""
    return quantile(influences) * float(np.sqrt(variance(influences, second_order)))


def variance(influences: Sequence[np.ndarray], second_order: float = 0.0) -> float:
    """Variance of a statistic of independent samples.

    influences: for each sample ``(n,)``: ``(n - 1)(theta - theta without example i)``.
    second_order: the part of the variance that comes from pairs of examples. The jackknife counts it twice ("The Jackknife
        Estimate of Variance", Efron and Stein 1981), which matters where the examples' own influence vanishes (two equal
        distributions). It is taken off in proportion to its share of the variance: fully where it is all there is, hardly
        where the jackknife is right without, since its own noise would cost coverage there.
    """
    total = _total(influences)
    if total <= 0:
        return 0.0
    once = max(total - second_order, total / 2)
    return total - (total - once) * min(1.0, second_order / once)


def quantile(influences: Sequence[np.ndarray]) -> float:
    """97.5 % point of Student's t with Satterthwaite's degrees of freedom 2 V^2 / Var(V), at least 2: heavy tails make the
    variance estimate V itself uncertain."""
    total = _total(influences)
    if not 0 < total < np.inf:
        return float(stats.t.ppf(0.975, np.inf))
    shares = [(t - t.mean()) ** 2 / (len(t) * total) for t in influences]  # near 1: their squares do not overflow
    spread = sum(float(share.var()) / len(share) for share in shares)
    freedom = max(2.0, 2 / spread) if spread > 0 else np.inf
    return float(stats.t.ppf(0.975, freedom))


def _total(influences: Sequence[np.ndarray]) -> float:
    return sum(float(t.var(ddof=1)) / len(t) for t in influences)
