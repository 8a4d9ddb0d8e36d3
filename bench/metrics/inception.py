"""Inception Score: how certain a classifier is of each sample, and how varied its answers are.

    IS = exp( mean over x of KL( p(y | x) || p(y) ) )

"Improved Techniques for Training GANs", Salimans et al. 2016 (arXiv 1606.03498). Between 1 and the number of classes. It
never looks at real data, and rewards nothing within a class: read it beside a distance.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy import stats

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, feature_matrix, seed_number, whole_number
from bench.metrics.layers import LOGITS, with_setting
from bench.metrics.order import order_of
from bench.record import Measurement

Seed: TypeAlias = int | Literal["content"] | None

SMALLEST_N = 100
"""An interval needs this many samples in each split, and two for each class."""


def inception_score(logits: Features, splits: int = 10, seed: Seed = "content") -> Measurement:
    """Inception Score ``is`` of class logits ``(N, classes)``: mean over ``splits`` equal parts; higher is better.

    seed: how rows come into splits. ``content``: at random, but by what they hold, so that the same samples in another order
    score the same. Published numbers hang on the order of the rows, and so do these: a number shuffles them as torch-fidelity
    does, None splits them as they stand. The score of N / splits samples lies below that of the model's distribution, so the interval (delta method) is one for the mean of this score at this n
    and this number of splits; compare only equal ones. None below 100 samples a split, or
    twice the number of classes.

    Raises BenchError for logits that are no finite matrix, and for more splits than samples.
    """
    rows = feature_matrix(logits, "logits")
    scores, variances = np.array([_score_and_variance(rows[part]) for part in _parts(rows, splits, seed)]).T
    value = float(scores.mean())
    measured = Measurement(value, name="is", n=len(rows), direction="higher")
    smallest = len(rows) // splits
    needed = max(SMALLEST_N, 2 * rows.shape[1])
    if smallest < needed:
        return measured.replace(note=f"no interval: {smallest} samples a split are fewer than {needed}")
    half = float(stats.norm.ppf(0.975) * np.sqrt(variances.sum()) / splits)
    return measured.replace(
        low=max(1.0, value - half), high=value + half, interval="delta method, for the mean at this n"
    )


def inception_scores(logits: Features, splits: int = 10, seed: Seed = "content") -> np.ndarray:
    """The score of each split ``(splits,)``. Papers report their mean and standard deviation, which is ``.std()`` with ddof 0
    in most libraries (torch-fidelity, stylegan3) and ddof 1 in torchmetrics and piq."""
    rows = feature_matrix(logits, "logits")
    return np.array([_score_and_variance(rows[part])[0] for part in _parts(rows, splits, seed)])


def _parts(logits: np.ndarray, splits: int, seed: Seed) -> list[np.ndarray]:
    """The rows of each split."""
    n = len(logits)
    whole_number(splits, "splits")
    if not 1 <= splits <= n // 2:
        raise BenchError(f"{splits} splits of {n} samples leave fewer than 2 in one; ask for 1 to {n // 2} splits")
    if seed == "content":
        order = order_of(logits)
    elif seed is None:
        order = np.arange(n)
    else:
        order = np.random.RandomState(seed_number(seed)).permutation(n)
    return [order[i * n // splits : (i + 1) * n // splits] for i in range(splits)]


def probabilities(logits: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax of ``(N, classes)`` logits and each row's sum of p log p, in float64.

    log p = x - log sum exp x: one exponential an entry, and no logarithm.
    """
    x = torch.from_numpy(np.ascontiguousarray(logits)).double()
    x = x - x.amax(1, keepdim=True)  # not in place: they are the caller's
    p = x.exp()
    total = p.sum(1, keepdim=True)
    p /= total
    return p, torch.linalg.vecdot(p, x) - total[:, 0].log()


def _score_and_variance(logits: np.ndarray) -> tuple[float, float]:
    """(score, its variance): a sample's influence on the log score is its divergence from the marginal."""
    p, negative_entropy = probabilities(logits)
    log_marginal = p.mean(0).clamp_min(torch.finfo(torch.float64).tiny).log()
    divergences = (negative_entropy - p @ log_marginal).numpy()
    score = float(np.exp(max(0.0, divergences.mean())))  # a divergence; rounding may go below zero
    return score, score**2 * float(divergences.var(ddof=1)) / len(p)


class InceptionScore(Metric):
    """Inception Score from the extractor's class scores: certainty and variety of its answers, on generated samples only."""

    paper = "Improved Techniques for Training GANs, Salimans et al. 2016 (arXiv 1606.03498)"
    needs = frozenset({"logits"})

    def __init__(self, splits: int = 10, shuffle: int | Literal["content", "none"] = "content") -> None:
        """splits: other than 10 they stand in the name (``is_splits1_*``). shuffle: how rows come into them, by their ``content``, by a seed as in
        torch-fidelity (``is_seed2020_*``), or as they stand (``none``)."""
        self.splits = whole_number(splits, "splits", 1)
        self.shuffle = shuffle if shuffle in ("content", "none") else whole_number(shuffle, "shuffle", 0)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        seed: Seed = None if self.shuffle == "none" else self.shuffle
        measured = inception_score(evidence.features("fake", LOGITS), self.splits, seed)
        name = with_setting(with_setting("is", "splits", self.splits, 10), "seed", self.shuffle, "content")
        return [measured.replace(name=f"{name}_{evidence.extractor}")]
