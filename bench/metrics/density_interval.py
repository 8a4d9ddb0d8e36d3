"""The variance of density, from what each example contributes to it.

Density is the mean over fakes of the real balls around them, over k. A fake's contribution is that number; a real example's is
the number of fakes in its ball, less what the balls of its neighbours would gain without it, as they would reach to their next
neighbours: the delete-one jackknife, exact, from one count. Two things are amiss with it. What a pair of a ball and a fake have
by chance is seen from both sides, and so counted twice; the covariance of a ball's contributions on two halves of the fakes is
free of it. And in few dimensions hardly anything but such chance makes density vary: balls shrink where examples are
close, and the jackknife sees each shrink but not that they make up for one another. There the variance of disjoint blocks is
right, which in many dimensions is not: a few examples in the middle lie in very many balls, and in small blocks they do not.
Which of the two rules is told by how far the balls around a fake from one half of the real examples agree with those from the
other (``CONSISTENT``). The rule and its constant were found by simulation (docs/intervals.md).
"""

from __future__ import annotations

import math

import numpy as np

from bench.metrics.jackknife import quantile
from bench.metrics.manifold import Pairs, neighbourhoods

CONSISTENT = 0.5
"""Correlation of the balls around fakes between halves of the real examples from which on the jackknife alone is used."""


class DensityCounts:
    """Counts over close pairs: of fakes in each real ball and in its outer ball, by halves of the fakes; of balls around each fake, by
    halves of the real examples."""

    def __init__(self, real: np.ndarray, k: int, real_order: np.ndarray, fake_order: np.ndarray) -> None:
        """real ``(N, d)``, N > k + 1. real_order, fake_order: a random order ``(N,)``, ``(M,)`` of each set."""
        self.k = k
        self.radii, self.outer, self.fellows = neighbourhoods(real, k)
        self._real_half, self._fake_half = _halves(real_order), _halves(fake_order)
        self._in_ball, self._in_outer = (np.zeros(2 * len(real_order), np.int64) for _ in range(2))
        self._around = np.zeros(2 * len(fake_order), np.int64)
        self.held = np.zeros(len(fake_order), np.int64)  # real examples in the ball of each fake

    def add(self, pairs: Pairs) -> None:
        balls = self._fake_half[pairs.fake] * len(self._real_half) + pairs.real
        fakes = self._real_half[pairs.real] * len(self._fake_half) + pairs.fake
        self._in_ball += np.bincount(balls[pairs.in_real], minlength=len(self._in_ball))
        self._in_outer += np.bincount(balls[pairs.in_outer], minlength=len(self._in_outer))
        self._around += np.bincount(fakes[pairs.in_real], minlength=len(self._around))
        self.held += np.bincount(pairs.fake[pairs.in_fake], minlength=len(self.held))

    @property
    def holding(self) -> np.ndarray:
        """Fakes in the ball of each real example ``(N,)``."""
        return self._in_ball.reshape(2, -1).sum(0)

    @property
    def reached(self) -> int:
        """Fakes that lie in some real ball."""
        return int((self._around.reshape(2, -1).sum(0) > 0).sum())

    def jackknife_half_width(self) -> float:
        """Of a 95 % interval by the jackknife; what a ball and a fake have by chance is counted once."""
        n, m = len(self._real_half), len(self._fake_half)
        of_real = self.real_contributions()
        of_fake = self._around.reshape(2, m).sum(0) / self.k
        variance = max(0.0, float(np.cov(of_real)[0, 1])) / n + float(of_fake.var(ddof=1)) / m
        return quantile([of_real.mean(0), of_fake]) * math.sqrt(variance)

    def jackknife_share(self) -> float:
        """How much of the variance is to be the jackknife's, 0 to 1; the rest that of blocks."""
        first, second = self._around.reshape(2, -1)
        total = float((first + second).var(ddof=1))
        agreement = 4 * float(np.cov(first, second)[0, 1]) / total if total > 0 else 0.0
        return float(np.clip(agreement / CONSISTENT, 0, 1))

    def real_contributions(self) -> np.ndarray:
        """(N - 1)(density - density without the real example) on each half of the fakes, but for a constant: ``(2, N)``."""
        n = len(self._real_half)
        in_ball, in_outer = self._in_ball.reshape(2, n), self._in_outer.reshape(2, n)
        sizes = np.bincount(self._fake_half, minlength=2)
        found = []
        for inner, outer, size in zip(in_ball, in_outer, sizes):
            gained = np.repeat(outer - inner, self.k).astype(np.float64)
            of_neighbours = np.bincount(self.fellows.ravel(), weights=gained, minlength=n)
            found.append((n - 1) * (inner - of_neighbours) / (self.k * size))
        return np.array(found)


def effective(counts: np.ndarray) -> float:
    """Number of balls that decide: (sum c)^2 / sum c^2 of what each holds; all of them where they hold equally many."""
    total = float(counts.sum())
    return total**2 / float((counts.astype(np.float64) ** 2).sum()) if total else 0.0


def _halves(order: np.ndarray) -> np.ndarray:
    """0 or 1 for each row, half of them each."""
    half = np.empty(len(order), np.int64)
    half[order] = np.arange(len(order)) % 2
    return half
