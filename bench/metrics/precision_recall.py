"""Precision, recall, density and coverage: how many generated samples look real, and how much of the real they reach.

A sample lies on a set's manifold if it is nearer to one of its points than that point's k-th nearest neighbour.
"Improved Precision and Recall Metric for Assessing Generative Models", Kynkaanniemi et al. 2019 (arXiv 1904.06991);
"Reliable Fidelity and Diversity Metrics for Generative Models", Naeem et al. 2020 (arXiv 2002.09797).

All four depend on both sample sizes and on k, so their intervals are for the mean at these sizes; compare equal ones only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.density_interval import DensityCounts, effective
from bench.metrics.inputs import Features, feature_pair, whole_number
from bench.metrics.layers import first_layer, named_after, with_setting
from bench.metrics.manifold import Points, chunks, close_pairs, comparable, squared_distances, squared_radii
from bench.metrics.order import order_of
from bench.record import Measurement

BLOCKS, REPEATS = 10, 2
SMALLEST_BLOCK = 20
"""An interval needs 10 blocks of at least 20 samples, and of more than 3 k, in both sets."""

COVERAGE_BLOCK = 25
"""That of coverage needs more: of heavy tails in 256 dimensions it covered 84 % with blocks of 20."""

DECIDING, GROWTH, FEWEST_BALLS = 0.4, 0.35, 5
"""Where a smaller share of the real balls decides precision (of the generated ones: recall), its interval grows as this power of the
ratio: of separate sets some balls at the edge decide, and in few dimensions blocks alone covered 63 % to 83 %. At least 5 must."""

FEWEST_DENSE, FEWEST_REACHED = 4, 10
"""Density needs so many deciding balls, and so many samples in real balls."""

INTERVAL = "blocks, for the mean at this n"

CANDIDATES = 4
"""Realism: balls whose distance is computed exactly for each sample, to begin with."""


class PRDC(NamedTuple):
    """precision: share of fakes within a real ball. recall: share of reals within a fake ball. density: mean number of real
    balls around a fake, divided by k; 1 where the distributions agree, above 1 where fakes crowd. coverage: share of real
    balls that hold a fake. All: higher is better, n is the number of fakes."""

    precision: Measurement
    recall: Measurement
    density: Measurement
    coverage: Measurement


def prdc(real: Features, fake: Features, k: int = 5, *, closed: bool = False, interval: bool = True) -> PRDC:
    """Precision, recall, density and coverage of features ``(N, d)`` and ``(M, d)`` from k nearest neighbours.

    closed: balls hold their boundary (``<=``, as torch-fidelity and the authors of precision and recall); by default they do
    not (``<``, as the package prdc). The two differ only at exact ties, as between copies. Counts are exact in float64.
    interval: False leaves intervals out and saves a fifth of the time. Raises BenchError for unusable features or a set of
    fewer than k + 1 points.

    Higher is better in all four; density may exceed 1. No interval below 200 samples of either set (coverage: 250), for large
    k, nor, of precision, recall and density, where a handful of balls decides, as between sets that hardly overlap; ``note``
    says so.
    """
    reference, samples = feature_pair(real, fake)
    _check_k(k, len(reference), len(samples))
    note = _no_interval(min(len(reference), len(samples)) // BLOCKS, k) if interval else "no interval asked for"
    if note:
        values = _count(reference, samples, k, closed)
        return PRDC(*(_named(name, value, len(samples), note=note) for name, value in zip(PRDC._fields, values)))
    orders = order_of(reference), order_of(samples)
    counts = DensityCounts(reference, k, *orders)
    values = _count(reference, samples, k, closed, counts)
    blocks, m = _blocks(reference, samples, k, closed, orders), len(samples)
    precision, recall = (
        _of_balls(_share(name, values[i], blocks[:, :, i], m), held, what)
        for i, (name, held, what) in enumerate(
            (("precision", counts.holding, "real"), ("recall", counts.held, "generated"))
        )
    )
    coverage = _share("coverage", values[3], blocks[:, :, 3], m)
    if min(len(reference), m) < BLOCKS * COVERAGE_BLOCK:
        note = f"no interval: it is made from {BLOCKS} blocks, which must hold {COVERAGE_BLOCK} samples each"
        coverage = _named("coverage", values[3], m, note=note)
    return PRDC(precision, recall, _density(values[2], blocks[:, :, 2], counts, m), coverage)


def _of_balls(share: Measurement, held: np.ndarray, what: str) -> Measurement:
    """With a wider interval where few of the balls decide it, as blocks of the samples hide how much these differ by chance."""
    deciding = effective(held)
    if deciding < FEWEST_BALLS:
        note = f"no interval: {deciding:.0f} of {len(held)} {what} examples decide it"
        return share.replace(low=None, high=None, interval=None, note=note)
    assert share.low is not None
    assert share.high is not None
    factor = max(1.0, DECIDING * len(held) / deciding) ** GROWTH
    low, high = (share + factor * (end - share) for end in (share.low, share.high))
    return share.replace(low=max(0.0, low), high=min(1.0, high))


def _no_interval(smallest_block: int, k: int) -> str | None:
    if smallest_block >= max(SMALLEST_BLOCK, 3 * k + 1):
        return None
    return f"no interval: it is made from {BLOCKS} blocks, and blocks of {smallest_block} samples are too small for k = {k}"


def realism_score(real: Features, fake: Features, k: int = 3) -> np.ndarray:
    """Realism of each fake ``(M,)``: the largest ratio of a real ball's radius to the distance from its centre.

    At least 1 within the manifold. The half of the reals with the larger radii is left out, as outliers would lend realism to
    everything near them. inf for an exact copy of a real sample. Source: as precision, section 5.

    Higher is better. Raises BenchError for unusable features or a set of fewer than k + 1 points.
    """
    reference, samples = feature_pair(real, fake)
    _check_k(k, len(reference), len(samples))
    radii = squared_radii(reference, k)
    kept = radii <= np.median(radii)
    centres, radii = Points(reference[kept]), radii[kept]
    best = np.empty(len(samples))
    for rows in chunks(np.arange(len(samples)), len(centres), torch.float32):
        best[rows] = _realism(samples[rows], centres, radii)
    return np.sqrt(best)


def _realism(samples: np.ndarray, centres: Points, radii: np.ndarray) -> np.ndarray:
    """Largest squared ratio of each sample: of the few balls that a matrix product finds likeliest, decided by differences."""
    block, base = comparable(Points(samples, centres.centre), centres)
    lower = base.bounds(block.left_factor(slice(None))).numpy().astype(np.float64)
    at_most = np.divide(radii, lower, out=np.full(lower.shape, np.inf), where=lower > 0)
    few = min(CANDIDATES, len(base))
    chosen = np.argpartition(-at_most, few - 1, axis=1)[:, :few]
    best = _ratios(block, np.repeat(np.arange(len(samples)), few), base, chosen.ravel(), radii).reshape(-1, few).max(1)
    unsure = (np.take_along_axis(at_most, chosen, 1).min(1) > best) & (few < len(base))
    if not unsure.any():
        return best
    if base.dtype == torch.float32:
        best[unsure] = _realism(samples[unsure], base.exacter, radii)
        return best
    everyone = np.arange(len(base))
    for row in np.flatnonzero(unsure):  # clusters closer together than rounding errors
        best[row] = _ratios(block, np.full_like(everyone, row), base, everyone, radii).max()
    return best


def _ratios(samples: Points, rows: np.ndarray, centres: Points, balls: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Squared radius over squared distance of pairs; inf for copies."""
    squared = squared_distances(samples.values, rows, centres.values, balls)
    return np.divide(radii[balls], squared, out=np.full(len(rows), np.inf), where=squared > 0)


def _check_k(k: int, reals: int, fakes: int) -> None:
    whole_number(k, "k")
    if k < 1 or min(reals, fakes) < k + 1:
        raise BenchError(
            f"k = {k} nearest neighbours need at least k + 1 points in each set, "
            f"but there are {reals} real and {fakes} fake; give more samples or a smaller k of at least 1"
        )


def _count(real: np.ndarray, fake: np.ndarray, k: int, closed: bool, counts: DensityCounts | None = None) -> np.ndarray:
    """precision, recall, density, coverage ``(4,)``; counts: of the same sets, to be filled."""
    real_radii, outer = (squared_radii(real, k), None) if counts is None else (counts.radii, counts.outer)
    fakes = Points(fake)
    fake_radii = squared_radii(fakes, k)
    balls_around = np.zeros(len(fake), np.int64)
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for pairs in close_pairs(real, fakes, real_radii, fake_radii, closed, outer):
        if counts is not None:
            counts.add(pairs)
        balls_around += np.bincount(pairs.fake[pairs.in_real], minlength=len(fake))
        covered[pairs.real[pairs.in_real]] = True
        recalled[pairs.real[pairs.in_fake]] = True
    return np.array([(balls_around > 0).mean(), recalled.mean(), balls_around.sum() / (k * len(fake)), covered.mean()])


def _blocks(
    real: np.ndarray, fake: np.ndarray, k: int, closed: bool, orders: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The four values of disjoint random blocks of both sets ``(REPEATS, BLOCKS, 4)``; orders: of their rows.

    Each value is a mean over local neighbourhoods, so its variance falls as 1/n: that of a block, divided by BLOCKS, is that of
    the whole. A jackknife does not work here: nearest-neighbour balls react too much to a single point, and its interval
    is about twice too wide. (Of density more is known: ``bench.metrics.density_interval``.)
    """
    rng = np.random.default_rng(0)
    values = []
    for _ in range(REPEATS):
        parts = (np.array_split(rng.permutation(order), BLOCKS) for order in orders)
        values.append([_count(real[rows], fake[columns], k, closed) for rows, columns in zip(*parts, strict=True)])
    return np.array(values)


def _share(name: str, value: float, blocks: np.ndarray, n: int) -> Measurement:
    """A proportion with Wilson's interval at the sample size that a binomial of the blocks' variance would have."""
    centre, variance = _centre_and_variance(blocks)
    size = centre * (1 - centre) / variance if variance > 0 else n
    z = float(stats.t.ppf(0.975, BLOCKS - 1))
    middle = (value + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(value * (1 - value) / size + z * z / (4 * size**2))
    low = 0.0 if value == 0 else max(0.0, middle - half)
    high = 1.0 if value == 1 else min(1.0, middle + half)
    return _named(name, value, n, low=low, high=high, interval=f"wilson, {INTERVAL}")


def _density(value: float, blocks: np.ndarray, counts: DensityCounts, n: int) -> Measurement:
    """Between the interval of blocks, whose standard deviation is taken to keep its proportion to the mean, and a jackknife's."""
    centre, variance = _centre_and_variance(blocks)
    deciding = effective(counts.holding)
    if deciding < FEWEST_DENSE or counts.reached < FEWEST_REACHED:
        note = (
            f"no interval: {counts.reached} of {n} samples are near real ones, and {deciding:.0f} real ones decide it"
        )
        return _named("density", value, n, note=note)
    if variance == 0:
        return _named("density", value, n, note="no interval: all blocks of the samples give the same value")
    of_blocks = float(stats.t.ppf(0.975, REPEATS * (BLOCKS - 1))) ** 2 * variance * (value / centre) ** 2
    share = counts.jackknife_share()
    half = np.sqrt((1 - share) * of_blocks + share * counts.jackknife_half_width() ** 2)
    half *= float(
        stats.t.ppf(0.975, max(1.0, deciding / 3)) / stats.norm.ppf(0.975)
    )  # a variance that few balls decide is unsure
    interval = "blocks and jackknife, for the mean at this n"
    return _named("density", value, n, low=max(0.0, value - half), high=value + half, interval=interval)


def _centre_and_variance(blocks: np.ndarray) -> tuple[float, float]:
    return float(blocks.mean()), float(blocks.var(axis=1, ddof=1).mean()) / BLOCKS


def _named(name: str, value: float, n: int, **fields: Any) -> Measurement:
    return Measurement(value, name=name, n=n, direction="higher", **fields)


class PrecisionRecall(Metric):
    """Precision, recall, density and coverage by k nearest neighbours."""

    paper = (
        "Reliable Fidelity and Diversity Metrics for Generative Models, Naeem et al. 2020 (arXiv 2002.09797); "
        "Improved Precision and Recall Metric, Kynkaanniemi et al. 2019 (arXiv 1904.06991)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, k: int = 5, closed: bool = False) -> None:
        """layer: default ``mid`` where there is one (it tells dropped modes best), else ``final``, ``pool`` or the widest.
        k, closed: as of ``bench.metrics.prdc``; other than the default they stand in the names (``precision_k3_closed_*``)."""
        self.layer, self.k, self.closed = layer, whole_number(k, "k", 1), closed

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        found = prdc(evidence.features("real", layer), evidence.features("fake", layer), self.k, closed=self.closed)
        return [m.replace(name=named_after(self._with_settings(m.name), evidence, layer)) for m in found]

    def _with_settings(self, name: str) -> str:
        name = with_setting(name, "k", self.k, 5)
        return f"{name}_closed" if self.closed else name
