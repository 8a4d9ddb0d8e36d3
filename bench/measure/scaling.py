"""How throughput grows with resolution, batch size or width: a power law and the interval of its exponent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from bench.errors import BenchError
from bench.stats.intervals import Estimate


def exponent(x: Sequence[float], rates: Sequence[float], level: float = 0.95) -> Estimate:
    """``b`` of ``rate = a x^b``, by least squares on logarithms, with Student's t interval on n - 2 degrees of freedom.

    The interval says how well a power law fits these points. Two points give an exponent without one.
    """
    if len(x) != len(rates) or len(set(x)) < 2:
        raise BenchError(f"an exponent needs at least two different sizes, got {len(set(x))}; name more of them")
    if min(x) <= 0 or min(rates) <= 0:
        raise BenchError("sizes and rates of a power law are positive")
    u, v = np.log(np.asarray(x, dtype=float)), np.log(np.asarray(rates, dtype=float))
    centred = u - u.mean()
    slope = float(centred @ v / (centred @ centred))
    if len(u) == 2:
        return Estimate(slope, None, None, 2, "none")
    residuals = v - v.mean() - slope * centred
    freedom = len(u) - 2
    error = math.sqrt(float(residuals @ residuals) / freedom / float(centred @ centred))
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    return Estimate(slope, slope - half, slope + half, len(u), "t")
