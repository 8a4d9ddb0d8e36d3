"""Times of events that some never reached, and of which it is only known between which two looks they happened."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from bench.errors import BenchError
from bench.stats.intervals import Estimate


def censored_median(low: Sequence[float], high: Sequence[float], level: float = 0.95) -> Estimate:
    """Median time until an event, by the ends of the bracket that holds each time; ``high`` is inf where it never came.

    value: the median of the upper ends, inf where the event came to half or less. With all censoring at the end of the watch it
    is the median of Kaplan & Meier ("Nonparametric estimation from incomplete observations", JASA 1958). The interval lies between
    two order statistics, the lower one of the lower ends and the upper one of the upper ends: it covers at least ``level``
    whatever the distribution, and however wide the brackets are (David & Nagaraja, "Order Statistics", 2003, section 7.1). Needs 6
    times for 95 %, none below; its upper end is inf where too many never came.
    """
    first, last = np.sort(np.asarray(low, dtype=float)), np.sort(np.asarray(high, dtype=float))
    n = first.size
    if n == 0 or last.size != n or not (np.asarray(low, dtype=float) <= np.asarray(high, dtype=float)).all():
        raise BenchError("a median of times needs at least one bracket, each with low <= high")
    with np.errstate(invalid="ignore"):
        median = math.inf if not math.isfinite(last[n // 2]) else float((last[(n - 1) // 2] + last[n // 2]) / 2)
    k = int((special.bdtr(np.arange(n), n, 0.5) <= (1 - level) / 2).sum()) - 1
    if k < 0:
        return Estimate(median, None, None, n, "none")
    return Estimate(median, float(first[k]), float(last[n - 1 - k]), n, "order statistic")
