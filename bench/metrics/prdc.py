"""Precision, recall, density and coverage: how many generated samples look real, and how much of the real they reach.

A sample lies on a set's manifold if it is nearer to one of its points than that point's k-th nearest neighbour.
"Improved Precision and Recall Metric for Assessing Generative Models", Kynkaanniemi et al. 2019 (arXiv 1904.06991);
"Reliable Fidelity and Diversity Metrics for Generative Models", Naeem et al. 2020 (arXiv 2002.09797).

All four depend on both sample sizes and on k, so their intervals are for the mean at these sizes; compare equal ones only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, feature_pair
from bench.metrics.jackknife import quantile, variance
from bench.metrics.layers import first_layer, named_after
from bench.metrics.manifold import Balls, Pairs, balls, close_pairs
from bench.record import Measurement

INTERVAL = "jackknife, for the mean at this n"


class PRDC(NamedTuple):
    """precision: share of fakes within a real ball. recall: share of reals within a fake ball. density: mean number of real
    balls around a fake, divided by k; 1 where the distributions agree, above 1 where fakes crowd. coverage: share of real
    balls that hold a fake. All: higher is better, n is the number of fakes."""

    precision: Measurement
    recall: Measurement
    density: Measurement
    coverage: Measurement


def prdc(real: Features, fake: Features, k: int = 5, *, closed: bool = False) -> PRDC:
    """Precision, recall, density and coverage of features ``(N, d)`` and ``(M, d)`` from k nearest neighbours.

    closed: balls hold their boundary (``<=``, as torch-fidelity and the authors of precision and recall); by default they do
    not (``<``, as the package prdc). The two differ only at exact ties, as between copies. Counts are exact in float64.
    Raises BenchError for unusable features or a set of fewer than k + 2 points.
    """
    reference, samples = feature_pair(real, fake)
    _check_k(k, len(reference), len(samples))
    around_real, around_fake = balls(reference, k), balls(samples, k)
    tally = _Tally(around_real, around_fake, k)
    for pairs in close_pairs(reference, samples, around_real, around_fake, closed):
        tally.add(pairs)
    return tally.measurements()


def realism_score(real: Features, fake: Features, k: int = 3) -> np.ndarray:
    """Realism of each fake ``(M,)``: the largest ratio of a real ball's radius to the distance from its centre.

    At least 1 within the manifold. The half of the reals with the larger radii is left out, as outliers would lend realism to
    everything near them. inf for an exact copy of a real sample. Source: as precision, section 5.
    """
    reference, samples = feature_pair(real, fake)
    _check_k(k, len(reference), len(samples))
    radii = balls(reference, k).radius
    kept = np.flatnonzero(radii <= np.median(radii))
    best = np.empty(len(samples))
    for j, sample in enumerate(samples.astype(np.float64)):
        squared = ((reference[kept] - sample) ** 2).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            best[j] = np.nanmax(np.where(squared == 0, np.inf, radii[kept] / squared))
    return np.sqrt(best)


def _check_k(k: int, reals: int, fakes: int) -> None:
    if k < 1 or min(reals, fakes) < k + 2:
        raise BenchError(
            f"k = {k} nearest neighbours need at least k + 2 points in each set, "
            f"but there are {reals} real and {fakes} fake; give more samples or a smaller k of at least 1"
        )


class _Tally:
    """Counts over pairs, and what each count becomes without one example.

    Without real example i its own ball is gone, and the balls that had it among their k neighbours grow to the next one.
    """

    def __init__(self, around_real: Balls, around_fake: Balls, k: int) -> None:
        self.around_real, self.around_fake, self.k = around_real, around_fake, k
        n, m = len(around_real.radius), len(around_fake.radius)
        self.fakes_in, self.fakes_in_grown = np.zeros(n, np.int64), np.zeros(n, np.int64)  # in each real ball
        self.balls_around = np.zeros(m, np.int64)  # real balls around each fake
        self.only_fake = np.full(n, -1)  # the fake in a real ball that holds one
        self.recalled = np.zeros(n, bool)
        self.recall_change = np.zeros(m)  # reals lost (gained: negative) without each fake
        self.open_columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, pairs: Pairs) -> None:
        n, m = len(self.fakes_in), len(self.balls_around)
        reals, fakes = pairs.real, pairs.fake
        self.fakes_in += np.bincount(reals[pairs.in_real], minlength=n)
        self.fakes_in_grown += np.bincount(reals[pairs.in_grown_real], minlength=n)
        self.balls_around += np.bincount(fakes[pairs.in_real], minlength=m)
        single = pairs.in_real & (self.fakes_in[reals] == 1)
        self.only_fake[reals[single]] = fakes[single]
        self._add_recall(reals, fakes, pairs.in_fake, pairs.in_grown_fake)
        held = pairs.in_grown_real & (self.balls_around[fakes] <= 1)
        self.open_columns.append((fakes[held], reals[held], pairs.in_real[held]))

    def _add_recall(self, reals: np.ndarray, fakes: np.ndarray, inside: np.ndarray, grown: np.ndarray) -> None:
        around = np.bincount(reals[inside], minlength=len(self.recalled))
        self.recalled |= around > 0
        held = grown & (around[reals] <= 1)
        self.recall_change += changes(reals[held], fakes[held], inside[held], self.around_fake.neighbours)

    def measurements(self) -> PRDC:
        n, m, k = len(self.fakes_in), len(self.balls_around), self.k
        fakes, reals, inside = (np.concatenate(part) for part in zip(*self.open_columns, strict=True))
        held = self.balls_around[fakes] <= 1
        lost = changes(fakes[held], reals[held], inside[held], self.around_real.neighbours)
        within, covered = self.balls_around > 0, self.fakes_in > 0
        neighbours = self.around_real.neighbours
        gained = _spread(self.fakes_in_grown - self.fakes_in, neighbours)
        newly_covered = _spread(~covered & (self.fakes_in_grown > 0), neighbours)
        single = self.only_fake[self.fakes_in == 1]
        return PRDC(
            _share("precision", within, [(n - 1) * lost / m, within - within.mean()], m),
            _share(
                "recall", self.recalled, [self.recalled - self.recalled.mean(), (m - 1) * self.recall_change / n], m
            ),
            _mean("density", self.balls_around / k, [(n - 1) * (self.fakes_in - gained) / (k * m)], m),
            _share(
                "coverage",
                covered,
                [covered - covered.mean() - newly_covered, (m - 1) * np.bincount(single, minlength=m) / n],
                m,
            ),
        )


def changes(points: np.ndarray, centres: np.ndarray, inside: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """How many points leave the union of balls (less those that come in) without each ball's centre ``(n,)``.

    points, centres, inside: pairs of a point and a grown ball that holds it, and whether the ball holds it before growing;
    all such pairs of points that lie in at most one ball. neighbours: ``(n, k)`` of each centre.
    """
    n, k = neighbours.shape
    if len(points) == 0:
        return np.zeros(n)
    # Without centre `removed`, the point is in a ball that grew: for each grown-only pair, each neighbour of its centre.
    grown = ~inside
    saved = np.unique(np.repeat(points[grown], k) * n + neighbours[centres[grown]].ravel())
    owned = points[inside] * n + centres[inside]
    lost = owned[~np.isin(owned, saved)] % n
    owners = np.isin(saved // n, points[inside])
    come = saved[~owners] % n
    return np.bincount(lost, minlength=n) - np.bincount(come, minlength=n).astype(np.float64)


def _spread(amounts: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """For each point the sum of ``amounts`` over the balls that have it among their neighbours."""
    n, k = neighbours.shape
    return np.bincount(neighbours.ravel(), weights=np.repeat(amounts, k).astype(np.float64), minlength=n)


def _mean(name: str, values: np.ndarray, others: list[np.ndarray], n: int) -> Measurement:
    mean = float(values.mean())
    influences = [values - mean, *others]
    half = quantile(influences) * float(np.sqrt(variance(influences)))
    low = max(0.0, mean - half)
    return Measurement(mean, name=name, low=low, high=mean + half, n=n, direction="higher", interval=INTERVAL)


def _share(name: str, hits: np.ndarray, influences: list[np.ndarray], n: int) -> Measurement:
    """A proportion with Wilson's interval at the sample size that a binomial of this variance would have."""
    p = float(hits.mean())
    spread = variance(influences)
    effective = p * (1 - p) / spread if spread > 0 and 0 < p < 1 else len(hits)
    z = quantile(influences) if spread > 0 else 1.96
    centre = (p + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z / (1 + z * z / effective) * np.sqrt(p * (1 - p) / effective + z * z / (4 * effective**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Measurement(p, name=name, low=low, high=high, n=n, direction="higher", interval=f"wilson, {INTERVAL}")


class PrecisionRecall(Metric):
    """Precision, recall, density and coverage by k nearest neighbours."""

    paper = (
        "Reliable Fidelity and Diversity Metrics for Generative Models, Naeem et al. 2020 (arXiv 2002.09797); "
        "Improved Precision and Recall Metric, Kynkaanniemi et al. 2019 (arXiv 1904.06991)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, k: int = 5) -> None:
        """layer: default ``mid`` where there is one (it tells dropped modes best), else ``final``, ``pool`` or the widest."""
        self.layer, self.k = layer, k

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        found = prdc(evidence.features("real", layer), evidence.features("fake", layer), self.k)
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in found]
