"""Realism scores of samples, for suites: how real is the median sample, and how many lie on the manifold of the data."""

from __future__ import annotations

import numpy as np

from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import whole_number
from bench.metrics.intervals import SMALLEST_N
from bench.metrics.layers import first_layer, named_after, with_setting
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

    def __init__(self, layer: str | None = None, k: int = 3) -> None:
        """layer: default ``mid`` where there is one, else ``final``, ``pool`` or the widest. k: nearest neighbours; other than 3 they stand in
        the name (``realism_k5_*``)."""
        self.layer, self.k = layer, whole_number(k, "k", 1)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        measured = median_realism(evidence.features("real", layer), evidence.features("fake", layer), self.k)
        return [measured.replace(name=named_after(with_setting(measured.name, "k", self.k, 3), evidence, layer))]
