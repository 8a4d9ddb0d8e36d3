"""Realism scores of samples, for suites: how real is the median sample, and how many lie on the manifold of the data."""

from __future__ import annotations

import numpy as np

from bench.metrics.base import Evidence, Metric
from bench.metrics.intervals import SMALLEST_N
from bench.metrics.layers import first_layer, named_after
from bench.metrics.precision_recall import realism_score
from bench.record import Measurement
from bench.stats.survival import censored_median


def median_realism(real: np.ndarray, fake: np.ndarray, k: int = 3) -> Measurement:
    """Median of ``realism_score`` over samples; higher is better, from 1 on a sample lies on the data's manifold.

    The interval (order statistics) is over samples, for this reference; none below 30 samples.

    real ``(N, d)``, fake ``(M, d)``. Raises BenchError for unusable features or a set of fewer than k + 1 points.
    """
    scores = realism_score(real, fake, k)
    found = censored_median(scores.tolist(), scores.tolist())  # the score of an exact copy is infinite
    plain = Measurement(found.value, name="realism", n=found.n, direction="higher")
    if found.n < SMALLEST_N or found.high is None or not np.isfinite(found.high):
        return plain.replace(note=f"no interval: fewer than {SMALLEST_N} samples, or exact copies of real ones")
    return plain.replace(low=found.low, high=found.high, interval="order statistics, this reference")


class Realism(Metric):
    """Realism score of the median sample; which samples look real, one by one, is ``realism_score``."""

    paper = "Improved Precision and Recall Metric for Assessing Generative Models, Kynkaanniemi et al. 2019 (arXiv 1904.06991)"
    needs = frozenset({"features"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, None, ("mid", "final", "pool"))
        measured = median_realism(evidence.features("real", layer), evidence.features("fake", layer))
        return [measured.replace(name=named_after(measured.name, evidence, layer))]
