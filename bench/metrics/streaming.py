"""Accumulators: update with batches, merge over shards or processes, compute once. float64, equal to the batch result."""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.metrics.frechet import frechet_distance_from_stats
from bench.metrics.inception import probabilities
from bench.metrics.inputs import Features, feature_matrix
from bench.metrics.moments import Moments
from bench.record import Measurement


class FrechetAccumulator:
    """Fréchet distance of feature batches ``(B, width)`` that are never all in memory: ``update`` both sides, ``compute`` once.

    Raises BenchError for batches that are not finite or of another width.
    """

    def __init__(self, width: int) -> None:
        self.real, self.fake = Moments(width), Moments(width)

    def update(self, features: Features, real: bool) -> FrechetAccumulator:
        (self.real if real else self.fake).update(features)
        return self

    def merge(self, other: FrechetAccumulator) -> FrechetAccumulator:
        self.real.merge(other.real)
        self.fake.merge(other.fake)
        return self

    def compute(self) -> Measurement:
        """``fd`` without an interval: that needs the features themselves."""
        distance = frechet_distance_from_stats(
            self.real.mean, self.real.covariance(), self.fake.mean, self.fake.covariance()
        )
        return distance.replace(n=self.fake.n)


class InceptionScoreAccumulator:
    """Inception Score over one split, from batches of logits ``(B, classes)``: only the class sums are kept.

    Raises BenchError for logits that are no finite matrix or of other classes.
    """

    def __init__(self, classes: int) -> None:
        self.n = 0
        self._sum = np.zeros(classes)  # of p(y given x)
        self._negative_entropy = 0.0

    def update(self, logits: Features) -> InceptionScoreAccumulator:
        p, negative_entropy = probabilities(feature_matrix(logits, "logits"))
        if p.shape[1] != len(self._sum):
            raise BenchError(f"logits of {p.shape[1]} classes came after ones of {len(self._sum)}")
        self.n += len(p)
        self._sum += p.sum(0).numpy()
        self._negative_entropy += float(negative_entropy.sum())
        return self

    def merge(self, other: InceptionScoreAccumulator) -> InceptionScoreAccumulator:
        if len(other._sum) != len(self._sum):
            raise BenchError(f"scores of {len(self._sum)} and of {len(other._sum)} classes cannot be merged")
        self.n += other.n
        self._sum += other._sum
        self._negative_entropy += other._negative_entropy
        return self

    def compute(self) -> float:
        """exp of the mean Kullback-Leibler divergence of p(y given x) from the marginal."""
        if self.n == 0:
            raise BenchError("an Inception Score needs at least one batch of logits")
        marginal = self._sum / self.n
        seen = marginal > 0
        entropy = -float((marginal[seen] * np.log(marginal[seen])).sum())
        return float(np.exp(entropy + self._negative_entropy / self.n))
