"""Histograms of samples: bins cut into feature space, the divergences between their counts, and intervals for those."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import seed_number, whole_number
from bench.metrics.layers import first_layer, named_after, with_setting
from bench.metrics.neighbours import feature_sets
from bench.metrics.order import sampled
from bench.record import Direction, Measurement

SAMPLES_PER_BIN = 5
"""Below this many samples a bin on average no interval of a divergence is offered: its bias is too large to remove."""

MOST_ROWS = 10_000

ONE_BIN = "there is but one bin, since all training features are equal: nothing can be told"


def ndb(
    real: np.ndarray, fake: np.ndarray, bins: int = 100, train: np.ndarray | None = None, seed: int = 0
) -> tuple[Measurement, Measurement]:
    """Number of statistically different bins, as a share, and the Jensen-Shannon divergence of the two histograms.

    real ``(N, d)``, fake ``(M, d)``: features. k-means cuts the space into ``bins`` Voronoi cells of ``train`` (default:
    ``real``); each sample falls into the cell of the nearest centre. Give ``train`` where there is one: cells fitted on
    ``real`` itself fit it a little too well. Fewer bins where ``train`` has fewer different rows; NaN where all are equal.

    Returns ``ndb`` (share of bins whose proportions differ by a two-sided pooled z test at 5 %: a perfect model has 0.05, and
    it grows with the number of samples) and ``jsd_bins`` (nats, 0 to ln 2). Lower is better in both.
    "On GANs and GMMs", Richardson and Weiss 2018 (arXiv 1805.12462).

    Raises BenchError for features that are not finite matrices of one width, and for bins that cannot be cut from
    ``train``.
    """
    counts = histograms(real, fake, bins, real if train is None else train, seed)
    different, jsd = _different_bins(*counts), divergence(jensen_shannon, counts, name="jsd_bins")
    if len(counts[0]) == 1:
        return different, jsd.replace(value=float("nan"), low=None, high=None, interval=None, note=ONE_BIN)
    return different, jsd


def histograms(
    real: np.ndarray, fake: np.ndarray, bins: int, train: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How many of ``real`` and of ``fake`` fall into each of ``bins`` k-means cells of ``train`` (10 000 rows of it at most, drawn
    by ``seed``). A cell for each different row where there are fewer of them than ``bins``."""
    train, real, fake = feature_sets(train, real, fake)
    whole_number(bins, "bins")
    seed_number(seed)
    if not 2 <= bins <= len(train):
        raise BenchError(f"{bins} bins cannot be cut from {len(train)} examples; choose between 2 and that number")
    cells = k_means(sampled(train, MOST_ROWS, seed), bins, seed)
    occupied = np.unique(cells.labels_)
    in_real, in_fake = (np.bincount(cells.predict(x.astype(np.float64)), minlength=bins) for x in (real, fake))
    return in_real[occupied], in_fake[occupied]


def k_means(rows: np.ndarray, cells: int, seed: int, starts: int = 1) -> KMeans:
    """k-means of ``(N, d)`` rows in float64. Give them ``shuffled``: where it begins depends on their order. Fewer different rows
    than ``cells`` leave some cells empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of just that
        return KMeans(cells, n_init=starts, random_state=seed).fit(np.asarray(rows, dtype=np.float64))


def kullback_leibler(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) in nats of two probability vectors; infinite where q is 0 and p is not."""
    kept = p > 0
    with np.errstate(divide="ignore"):
        return float((p[kept] * np.log(p[kept] / q[kept])).sum())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in nats, 0 to ln 2."""
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def divergence(
    statistic: Callable[..., float], counts: Sequence[np.ndarray], *, name: str, direction: Direction = "lower"
) -> Measurement:
    """A divergence of histograms, ``statistic(*probabilities)``, from counts ``(K,)`` of independent samples.

    The plain value is biased upwards by about K / 2n; the interval is for the true divergence: a delete-one jackknife (exact,
    one recomputation a bin) removes the bias and gives the standard error. Cut at 0. None for fewer than 5 samples a
    bin, nor where the value is infinite.
    """
    tables = [np.asarray(each, dtype=np.float64) for each in counts]
    sizes = [each.sum() for each in tables]
    n = int(sizes[-1])
    if min(sizes) == 0:
        return Measurement(float("nan"), name=name, n=n, unit="nats", direction=direction, note="no sample to count")
    shares = [each / size for each, size in zip(tables, sizes)]
    value = statistic(*shares)
    plain = Measurement(value, name=name, n=n, unit="nats", direction=direction)
    if not np.isfinite(value):
        return plain.replace(note="no interval: a value is infinite")
    if min(sizes) < SAMPLES_PER_BIN * len(tables[0]):
        return plain.replace(note=f"no interval: fewer than {SAMPLES_PER_BIN} samples a bin; biased upwards")
    bias = variance = 0.0
    for which, (histogram, size) in enumerate(zip(tables, sizes)):
        occupied = np.flatnonzero(histogram).tolist()
        without = np.array([_without_one(statistic, shares, which, histogram, size, bin) for bin in occupied])
        share = histogram[occupied] / size
        mean = (share * without).sum()
        bias += (size - 1) * (mean - value)
        variance += (size - 1) * (share * (without - mean) ** 2).sum()
    half = float(stats.norm.ppf(0.975)) * np.sqrt(variance)
    low, high = (max(0.0, float(value - bias + end)) for end in (-half, half))
    return plain.replace(low=low, high=high, interval="jackknife, bias-corrected")


def _without_one(
    statistic: Callable[..., float], shares: list[np.ndarray], which: int, histogram: np.ndarray, size: float, bin: int
) -> float:
    reduced = histogram.copy()
    reduced[bin] -= 1
    return statistic(*shares[:which], reduced / (size - 1), *shares[which + 1 :])


def _different_bins(in_real: np.ndarray, in_fake: np.ndarray) -> Measurement:
    n, m = in_real.sum(), in_fake.sum()
    if len(in_real) < 2:
        return Measurement(float("nan"), name="ndb", n=int(m), direction="lower", note=ONE_BIN)
    pooled = (in_real + in_fake) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    difference = np.abs(in_real / n - in_fake / m)
    different = difference > stats.norm.ppf(0.975) * error
    note = "no interval: a count of tests at 5 %, so that 0.05 is ideal"
    if min(n, m) * pooled.min() < SAMPLES_PER_BIN:
        note += "; too few samples in some bins for the z test"
    return Measurement(float(different.mean()), name="ndb", n=int(m), direction="lower", note=note)


class Bins(Metric):
    """Histograms over k-means bins of the widest layer: share of statistically different bins and their JSD."""

    paper = "On GANs and GMMs, Richardson, Weiss 2018 (arXiv 1805.12462)"
    needs = frozenset({"features", "train"})

    def __init__(self, layer: str | None = None, bins: int = 100) -> None:
        """layer: default the widest. bins: how many, but no more than leave ten rows of each set in one; other than 100 they stand in the names
        (``ndb_bins50_*``)."""
        self.layer, self.bins = layer, whole_number(bins, "bins", 2)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        train, real, fake = (evidence.features(split, layer) for split in ("train", "real", "fake"))
        bins = max(2, min(self.bins, min(len(real), len(fake), len(train)) // (2 * SAMPLES_PER_BIN)))
        found = ndb(real, fake, bins, train, evidence.seed)
        few = f"{bins} bins of {self.bins}: more would hold too few samples" if bins < self.bins else None
        return [
            m.replace(
                name=named_after(with_setting(m.name, "bins", self.bins, 100), evidence, layer),
                note="; ".join(filter(None, [few, m.note])) or None,
            )
            for m in found
        ]
