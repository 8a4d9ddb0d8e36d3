"""Three variances of a generative model's score, kept apart: training seed, sampling seed, finite sample. Pure, no I/O."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import BenchError
from bench.stats.intervals import Estimate, t_interval


class Components(NamedTuple):
    """Standard deviations of one score. training: from training seed to training seed; sampling: from one sample set of a
    trained model to the next; finite: what the size of the sample set explains by its own error estimate (part of ``sampling``
    where sample sets are drawn independently), None where none was given. score: mean with the t interval over training
    seeds, the sampling seeds averaged first: only training seeds are independent repetitions.
    """

    score: Estimate
    training: float
    sampling: float
    finite: float | None


def variance_components(scores: ArrayLike, standard_errors: ArrayLike | None = None) -> Components:
    """Split the spread of ``scores`` by one-way random-effects analysis of variance (Searle, Casella & McCulloch, "Variance
    components", 1992, section 3.6).

    scores: ``(training seeds, sampling seeds)``, at least 2 by 2. standard_errors: same shape, the finite-sample standard error
    of each score. The variance between training seeds is what remains of the variance of the seed means after the share of
    sampling noise in them; where nothing remains it is 0.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise BenchError(
            f"variance components need finite scores (training seeds, sampling seeds), 2 x 2 at least, got {x.shape}"
        )
    means = x.mean(axis=1)
    within = float(x.var(axis=1, ddof=1).mean())
    between = max(0.0, float(means.var(ddof=1)) - within / x.shape[1])
    finite = None
    if standard_errors is not None:
        errors = np.asarray(standard_errors, dtype=float)
        if errors.shape != x.shape:
            raise BenchError(f"there must be one standard error a score, got {errors.shape} for {x.shape}")
        finite = math.sqrt(float((errors**2).mean()))
    return Components(t_interval(means), math.sqrt(between), math.sqrt(within), finite)
