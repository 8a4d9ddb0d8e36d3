"""Memorisation: are samples closer to training examples than honest new data would be?

All measures use Euclidean (MiFID: cosine) distances between features ``(N, d)``. "Honest" is calibrated by held-out real data:
the test split plays the part of the perfect generator.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.bins import k_means
from bench.metrics.inputs import seed_number, whole_number
from bench.metrics.intervals import (
    auc_and_variance,
    difference_of_proportions,
    mean_of,
    proportion_of,
    ratio_of_medians,
)
from bench.metrics.layers import first_layer, named_after, named_with_layer, with_setting
from bench.metrics.neighbours import feature_sets, nearest
from bench.metrics.order import shuffled
from bench.record import Measurement

NEAR_COPY_QUANTILE = 0.01
"""A near-copy is closer to a training example than 99 % of training examples are to their nearest fellow."""

SMALLEST_CELL = 20
"""Samples a cell of the data-copying test must hold to count, as in the paper's experiments."""

FLAG_Z = 3.0
"""A verdict needs three standard errors: at most about 3 false alarms in 1000 honest models, two tests together."""


@dataclasses.dataclass(frozen=True)
class TrainDistances:
    """Distance to the nearest training example of each sample and each held-out example, and of training examples to
    one another; ``fake_nearest`` holds the index of each sample's nearest training example."""

    fake: np.ndarray
    fake_nearest: np.ndarray
    test: np.ndarray
    within: np.ndarray

    @classmethod
    def between(cls, train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> TrainDistances:
        # of equally near training examples the first is taken: which one that is must not hang on how they came
        train, test, fake = map(shuffled, feature_sets(train, test, fake))
        fake_distances, fake_nearest = nearest(fake, train)
        within = nearest(train, train, skip_self=True)[0][:, 0]
        return cls(fake_distances[:, 0], fake_nearest[:, 0], nearest(test, train)[0][:, 0], within)

    @property
    def near_copy_threshold(self) -> float:
        apart = self.within[self.within > 0]  # exact twins among the data must not make every threshold 0
        return float(np.quantile(apart, NEAR_COPY_QUANTILE)) if apart.size else 0.0


def authpct(train: np.ndarray, fake: np.ndarray) -> Measurement:
    """Per cent of samples that are authentic: farther from their nearest training example than *it* is from its own nearest.

    train ``(N, d)``, fake ``(M, d)``. 0 is copied throughout; held-out real data score around 50 or above, by dimension: read it
    beside the floor. Wilson interval. "How Faithful is your Synthetic Data?", Alaa et al. 2022 (arXiv 2102.08921).

    Higher is more authentic. Raises BenchError for features that are not finite matrices of one width.
    """
    train, fake = map(shuffled, feature_sets(train, fake))
    distance, index = nearest(fake, train)
    within = nearest(train, train, skip_self=True)[0][:, 0]
    return _authpct(distance[:, 0], within[index[:, 0]])


def data_copying(train: np.ndarray, test: np.ndarray, fake: np.ndarray, cells: int = 3, seed: int = 0) -> Measurement:
    """The three-sample data-copying statistic C_T: 0 is ideal, below -3 the model copies, above 3 it underfits.

    In each of ``cells`` k-means cells of the training set, the Mann-Whitney U statistic of "a sample is farther from training
    data than a test example" is standardised to Z; C_T averages Z over the cells with more than 20 samples, weighted by their
    share of test examples. A z score: it grows with the square root of the number of samples. The interval treats the
    training set and its cells as fixed (variance of U by DeLong's placements).
    "A Non-Parametric Test to Detect Data-Copying in Generative Models", Meehan, Chaudhuri, Dasgupta 2020 (arXiv 2004.05675).

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``. Raises BenchError for features that are not finite matrices of
    one width.
    """
    train, test, fake = map(shuffled, feature_sets(train, test, fake))
    whole_number(cells, "cells", 1)
    seed_number(seed)
    plain = Measurement(float("nan"), name="data_copying_ct", n=len(fake), unit="z")
    clusters = k_means(train, min(cells, len(train)), seed, starts=3)
    cell_of = [clusters.predict(np.asarray(each, dtype=np.float64)) for each in (train, test, fake)]
    total = weight_sum = variance_sum = 0.0
    for cell in range(clusters.n_clusters):
        in_train, in_test, in_fake = (each[at == cell] for each, at in zip((train, test, fake), cell_of))
        if len(in_fake) <= SMALLEST_CELL or len(in_test) < 2:  # of one test example no variance can be told
            continue
        auc, variance = auc_and_variance(nearest(in_test, in_train)[0], nearest(in_fake, in_train)[0])
        m, n = len(in_fake), len(in_test)
        to_z = m * n / np.sqrt(m * n * (m + n + 1) / 12)
        total += n * to_z * (auc - 0.5)
        variance_sum += (n * to_z) ** 2 * variance
        weight_sum += n
    if weight_sum == 0:
        return plain.replace(note=f"no cell holds more than {SMALLEST_CELL} samples and two test examples")
    value = total / weight_sum
    if not variance_sum > 0:
        return plain.replace(value=value, note="no interval: samples and test examples are perfectly separated")
    half = float(stats.norm.ppf(0.975)) * np.sqrt(variance_sum) / weight_sum
    return plain.replace(value=value, low=value - half, high=value + half, interval="delong")


def nearest_train_ratio(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> Measurement:
    """Median distance of samples to the training set, relative to that of test examples. 1 is ideal; 0 is copying.

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``. Raises BenchError for features that are not finite matrices of
    one width.
    """
    return _nearest_train_ratio(TrainDistances.between(train, test, fake))


def near_copies(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> Measurement:
    """Share of samples that are near-copies of a training example, less the share of *test* examples that are.

    A near-copy is closer to a training example than 99 % of training examples are to their nearest fellow. 0 is ideal, 1 copies
    throughout; Newcombe interval.

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``; lower is better. Raises BenchError for features that are not
    finite matrices of one width.
    """
    return _near_copies(TrainDistances.between(train, test, fake))


def mifid_distance(train: np.ndarray, fake: np.ndarray) -> Measurement:
    """Mean over samples of the smallest cosine distance ``1 - |cos|`` to a training example; higher is less memorised.

    A sample of norm 0 is at distance 0 from a training example of norm 0, else at 1.
    "On Training Sample Memorization: Lessons from Benchmarking Generative Modeling with a Large-scale Competition", Bai et al.
    2021 (arXiv 2106.03062).

    train ``(N, d)``, fake ``(M, d)``. Raises BenchError for features that are not finite matrices of one width.
    """
    train, fake = feature_sets(train, fake)
    fellows, samples = _unit_rows(train), _unit_rows(fake)
    if len(fellows) and len(samples):
        # |cos| is largest where x is nearest to y or to -y: 1 - |cos| = min(|x - y|, |x + y|)^2 / 2
        closest = np.minimum(nearest(samples, fellows)[0], nearest(-samples, fellows)[0])[:, 0] ** 2 / 2
    else:
        closest = np.ones(len(samples))
    of_zeros = np.full(len(fake) - len(samples), 0.0 if len(fellows) < len(train) else 1.0)
    return mean_of(np.concatenate([closest, of_zeros]), name="mifid_distance", direction="higher")


def mifid(frechet: Measurement, distance: Measurement, threshold: float = 0.1) -> Measurement:
    """Memorisation-informed Fréchet distance: ``frechet / distance`` where ``distance`` is below ``threshold``, else ``frechet``.

    distance: from ``mifid_distance``. The interval is that of ``frechet``, divided likewise: the penalty is taken as known.

    Lower is better.
    """
    penalty = float(distance) if distance < threshold else 1.0
    penalty = max(penalty, 1e-14)
    low, high = (None if end is None else end / penalty for end in (frechet.low, frechet.high))
    return frechet.replace(value=frechet / penalty, name="mifid", low=low, high=high)


def memorisation_verdict(
    train: np.ndarray, test: np.ndarray, fake: np.ndarray, cells: int = 3, seed: int = 0
) -> Measurement:
    """1 if the samples are copied from the training set beyond doubt, else 0; ``note`` gives the reason.

    Flagged where near-copies exceed those among held-out data by more than 3 standard errors (pooled), or C_T < -3. A model as
    good as held-out real data is flagged less than 3 times in 1000.

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``; 0 is better. Raises BenchError for features that are not finite
    matrices of one width.
    """
    distances = TrainDistances.between(train, test, fake)
    return _verdict(distances, data_copying(train, test, fake, cells, seed))


def _authpct(to_train: np.ndarray, of_neighbour: np.ndarray) -> Measurement:
    share = proportion_of(to_train > of_neighbour, name="authpct")
    assert share.low is not None
    assert share.high is not None
    return share.replace(value=100 * share, low=100 * share.low, high=100 * share.high, unit="%")


def _nearest_train_ratio(distances: TrainDistances) -> Measurement:
    return ratio_of_medians(distances.fake, distances.test, name="nearest_train_ratio")


def _near_copies(distances: TrainDistances) -> Measurement:
    threshold = distances.near_copy_threshold
    return difference_of_proportions(distances.fake <= threshold, distances.test <= threshold, name="near_copies")


def _verdict(distances: TrainDistances, ct: Measurement) -> Measurement:
    threshold = distances.near_copy_threshold
    share, honest = float((distances.fake <= threshold).mean()), float((distances.test <= threshold).mean())
    m, n = len(distances.fake), len(distances.test)
    pooled = (share * m + honest * n) / (m + n)
    error = np.sqrt(pooled * (1 - pooled) * (1 / m + 1 / n))
    copied = share - honest > FLAG_Z * error or ct < -FLAG_Z
    note = f"near-copies {share:.1%} of samples, {honest:.1%} of held-out data; C_T {float(ct):.1f}; a verdict, no interval"
    return Measurement(float(copied), name="memorised", n=m, direction="lower", note=note)


def _unit_rows(features: np.ndarray) -> np.ndarray:
    """The rows of norm above 0, scaled to norm 1, float64."""
    array = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    kept = length[:, 0] > 0
    return array[kept] / length[kept]


class Memorisation(Metric):
    """Are samples copies of training examples? AuthPct, C_T, nearest-train ratio, near-copies, MiFID and a verdict."""

    paper = "A Non-Parametric Test to Detect Data-Copying in Generative Models, Meehan et al. 2020 (arXiv 2004.05675)"
    needs = frozenset({"features", "train"})

    def __init__(self, layer: str | None = None, cells: int = 3, threshold: float = 0.1) -> None:
        """layer: default the widest, of MiFID that of ``frechet``. cells: of C_T and the verdict; threshold: of MiFID, the distance below which it
        punishes. Other than the default they stand in the names (``data_copying_ct_cells5_*``, ``mifd_threshold0.2_*``)."""
        if not threshold >= 0:
            raise BenchError(f"threshold is a cosine distance, at least 0, not {threshold}")
        self.layer, self.cells, self.threshold = layer, whole_number(cells, "cells", 1), float(threshold)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        train, test, fake = (evidence.features(split, layer) for split in ("train", "real", "fake"))
        distances = TrainDistances.between(train, test, fake)
        ct = data_copying(train, test, fake, self.cells, evidence.seed)
        verdict = _verdict(distances, ct)
        found = [
            _authpct(distances.fake, distances.within[distances.fake_nearest]),
            ct.replace(name=with_setting(ct.name, "cells", self.cells, 3)),
            _nearest_train_ratio(distances),
            _near_copies(distances),
            verdict.replace(name=with_setting(verdict.name, "cells", self.cells, 3)),
        ]
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in found] + [self._mifid(evidence)]

    def _mifid(self, evidence: Evidence) -> Measurement:
        from bench.metrics.frechet import frechet_distance

        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        train, test, fake = (evidence.features(split, layer) for split in ("train", "real", "fake"))
        measured = mifid(frechet_distance(test, fake), mifid_distance(train, fake), self.threshold)
        standard = evidence.extractor == "inception" and layer == "pool"
        name = with_setting("mifid" if standard else "mifd", "threshold", self.threshold, 0.1)
        return measured.replace(name=name if standard else named_with_layer(name, evidence, layer))
