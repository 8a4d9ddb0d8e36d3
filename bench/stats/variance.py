"""Three variances of a generative model's score, kept apart: training seed, sampling seed, finite sample. Pure, no I/O."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bench.errors import BenchError
from bench.stats.intervals import Estimate, t_interval


class Components(NamedTuple):
    """Standard deviations of one score. training: from training seed to training seed; sampling: from one sample set of a
    trained model to the next; finite: what the size of the sample set explains by its own error estimate (part of ``sampling``
    where sample sets are drawn independently), None where none was given. score: mean with the t interval over training
    seeds, the sampling seeds averaged first: only training seeds are independent repetitions.

    training, sampling: with 95 % intervals for normal scores: the exact one of ``sampling``, that of Williams and Tukey for
    ``training``, which covers at least as often.
    """

    score: Estimate
    training: Estimate
    sampling: Estimate
    finite: float | None


def variance_components(scores: ArrayLike, standard_errors: ArrayLike | None = None, level: float = 0.95) -> Components:
    """Split the spread of ``scores`` by one-way random-effects analysis of variance (Searle, Casella & McCulloch, "Variance
    components", 1992, sections 3.6 and 3.8).

    scores: ``(training seeds, sampling seeds)``, at least 2 by 2. standard_errors: same shape, the finite-sample standard error
    of each score. The variance between training seeds is what remains of the variance of the seed means after the share of
    sampling noise in them; where nothing remains it is 0. Its interval: Williams, "A confidence interval for variance
    components" (Biometrika 1962).
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise BenchError(
            f"variance components need finite scores (training seeds, sampling seeds), 2 x 2 at least, got {x.shape}"
        )
    means, (seeds, sets) = x.mean(axis=1), x.shape
    within = float(x.var(axis=1, ddof=1).mean())
    of_means = float(means.var(ddof=1))
    between = max(0.0, of_means - within / sets)
    finite = None
    if standard_errors is not None:
        errors = np.asarray(standard_errors, dtype=float)
        if errors.shape != x.shape:
            raise BenchError(f"there must be one standard error a score, got {errors.shape} for {x.shape}")
        finite = math.sqrt(float((errors**2).mean()))
    inner, outer = seeds * (sets - 1), seeds - 1
    tails = ((1 + level) / 2, (1 - level) / 2)
    ends_within = [inner * within / _chi_square(inner, tail) for tail in tails]
    # (MSB - MSW F) / n times d / chi2: where F says that sampling noise explains all, the end is 0
    ends_between = [
        outer * max(0.0, of_means - within / sets * _f_quantile(outer, inner, tail)) / _chi_square(outer, tail)
        for tail in tails
    ]
    return Components(
        t_interval(means, level),
        _deviation(between, ends_between, seeds, "williams-tukey"),
        _deviation(within, ends_within, x.size, "chi-square"),
        finite,
    )


def _deviation(variance: float, ends: list[float], n: int, method: str) -> Estimate:
    low, high = map(math.sqrt, ends)
    return Estimate(math.sqrt(variance), low, high, n, method)


def _chi_square(freedom: int, below: float) -> float:
    return float(special.chdtri(freedom, 1 - below))


def _f_quantile(first: int, second: int, below: float) -> float:
    return float(special.fdtri(first, second, below))
