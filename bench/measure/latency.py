"""How long one step or one sample takes: percentiles, each with the interval that its order statistics allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from bench.errors import BenchError
from bench.record import Measurement

PERCENTILES = (50, 95, 99)


def quantile_interval(
    values: Sequence[float], q: float, level: float = 0.95
) -> tuple[float, float | None, float | None]:
    """(quantile, low, high): the ends are order statistics, exact for any continuous distribution of independent values.

    The number of values below the quantile is Binomial(n, q); the ends are the order statistics that its central ``level``
    falls between (David & Nagaraja, "Order Statistics", 2003, section 7.1). Both are None where too few values lie beyond.
    """
    if not 0 < q < 1:
        raise BenchError(f"a quantile lies between 0 and 1, got {q}")
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = x.size
    if n == 0:
        raise BenchError("a quantile of no values was asked for; time at least one")
    value = float(np.quantile(x, q))
    tail = (1 - level) / 2
    counts = np.arange(n + 1)
    below = special.bdtr(counts, n, q)  # P(Binomial <= k)
    lower = int(np.searchsorted(below, tail, side="right"))  # the largest r with P(Binomial < r) <= tail
    upper = int(np.searchsorted(below, 1 - tail, side="left")) + 1  # the smallest s with P(Binomial >= s) <= tail
    if lower < 1 or upper > n:
        return value, None, None
    return value, float(x[lower - 1]), float(x[upper - 1])


def percentiles(name: str, seconds: Sequence[float], note: str | None = None) -> list[Measurement]:
    """``name_p50``, ``name_p95`` and ``name_p99`` in seconds. A tail that the laps are too few for has no interval."""
    found = []
    for percent in PERCENTILES:
        value, low, high = quantile_interval(seconds, percent / 100)
        found.append(
            Measurement(
                value,
                name=f"{name}_p{percent}",
                low=low,
                high=high,
                n=len(seconds),
                unit="s",
                direction="lower",
                interval=None if low is None else "order statistic",
                note=note if low is not None else "too few laps for an interval",
            )
        )
    return found
