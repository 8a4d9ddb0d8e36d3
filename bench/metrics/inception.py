"""Inception Score: how certain a classifier is of each sample, and how varied its answers are.

    IS = exp( mean over x of KL( p(y | x) || p(y) ) )

"Improved Techniques for Training GANs", Salimans et al. 2016 (arXiv 1606.03498). Between 1 and the number of classes. It
never looks at real data, and rewards nothing within a class: read it beside a distance.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, feature_matrix
from bench.metrics.layers import LOGITS
from bench.record import Measurement

SMALLEST_N = 100
"""An interval needs this many samples in each split."""


def inception_score(logits: Features, splits: int = 10, seed: int | None = 0) -> Measurement:
    """Inception Score ``is`` of class logits ``(N, classes)``: mean over ``splits`` equal parts; higher is better.

    seed: shuffles the rows before splitting (as torch-fidelity does); None keeps their order. The score of N / splits samples
    lies below that of the model's distribution, so the interval (delta method) is one for the mean of this score at this n
    and this number of splits; compare only equal ones. None below 100 samples a split.
    """
    log_p = _shuffled(log_probabilities(logits), seed)
    parts = _parts(log_p, splits)
    scores, variances = np.array([_score_and_variance(part) for part in parts]).T
    value = float(scores.mean())
    measured = Measurement(value, name="is", n=len(log_p), direction="higher")
    smallest = len(log_p) // splits
    if smallest < SMALLEST_N:
        return measured.replace(note=f"no interval: {smallest} samples a split are fewer than {SMALLEST_N}")
    half = float(stats.norm.ppf(0.975) * np.sqrt(variances.sum()) / splits)
    return measured.replace(
        low=max(1.0, value - half), high=value + half, interval="delta method, for the mean at this n"
    )


def inception_scores(logits: Features, splits: int = 10, seed: int | None = 0) -> np.ndarray:
    """The score of each split ``(splits,)``. Papers report their mean and standard deviation, which is ``.std()`` with ddof 0
    in most libraries (torch-fidelity, stylegan3) and ddof 1 in torchmetrics and piq."""
    parts = _parts(_shuffled(log_probabilities(logits), seed), splits)
    return np.array([_score_and_variance(part)[0] for part in parts])


def log_probabilities(logits: Features) -> np.ndarray:
    """log softmax of ``(N, classes)`` logits in float64."""
    return special.log_softmax(feature_matrix(logits, "logits").astype(np.float64), axis=1)


def _shuffled(log_p: np.ndarray, seed: int | None) -> np.ndarray:
    return log_p if seed is None else log_p[np.random.RandomState(seed).permutation(len(log_p))]


def _parts(log_p: np.ndarray, splits: int) -> list[np.ndarray]:
    n = len(log_p)
    if not 1 <= splits <= n // 2:
        raise BenchError(f"{splits} splits of {n} samples leave fewer than 2 in one; ask for 1 to {n // 2} splits")
    return [log_p[i * n // splits : (i + 1) * n // splits] for i in range(splits)]


def _score_and_variance(log_p: np.ndarray) -> tuple[float, float]:
    """(score, its variance): a sample's influence on the log score is its divergence from the marginal."""
    p = np.exp(log_p)
    log_marginal = np.log(np.maximum(p.mean(0), np.finfo(np.float64).tiny))
    divergences = (p * (log_p - log_marginal)).sum(1)
    score = float(np.exp(divergences.mean()))
    return score, score**2 * float(divergences.var(ddof=1)) / len(p)


class InceptionScore(Metric):
    """Inception Score from the extractor's class scores: certainty and variety of its answers, on generated samples only."""

    paper = "Improved Techniques for Training GANs, Salimans et al. 2016 (arXiv 1606.03498)"
    needs = frozenset({"logits"})

    def __init__(self, splits: int = 10) -> None:
        self.splits = splits

    def measure(self, evidence: Evidence) -> list[Measurement]:
        measured = inception_score(evidence.features("fake", LOGITS), self.splits, evidence.seed)
        return [measured.replace(name=f"is_{evidence.extractor}")]
