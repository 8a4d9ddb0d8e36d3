"""Mode collapse: does the model leave out kinds of data, or repeat itself?

Grain, blur or a shift of all samples takes them out of every region of a network's features, yet is no loss of diversity. So kinds
are counted in features only where samples lie as near to the data as data do, else in pixels, which such faults hardly move.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.metrics.base import Evidence, Metric
from bench.metrics.bins import ONE_BIN, histograms
from bench.metrics.intervals import newcombe
from bench.metrics.layers import first_layer, named_after
from bench.metrics.neighbours import feature_sets, nearest
from bench.metrics.order import sampled
from bench.record import Measurement
from bench.space import ImageSpace

REPEAT_QUANTILE = 0.01
REPEAT_FACTOR = 0.5
"""A repetition is less than half as far from a fellow sample as 99 % of real examples are from theirs, in equal sets."""

LIMIT = 0.25
"""A collapse: a quarter of the data are left out, or a quarter of the samples are repetitions."""

BINS = 20

NEAR_QUANTILE = 0.95
NEAR_SHARE = 2 / 3
"""Kinds can be counted where two thirds of the samples are as near to a training example as 95 % of held-out examples are."""


def missing_mass(
    real: np.ndarray, fake: np.ndarray, bins: int = BINS, train: np.ndarray | None = None, seed: int = 0
) -> Measurement:
    """Share of real data that lie in bins where the model puts less than a tenth of the data's share; 0 is best.

    Bins as in ``bench.metrics.bins.ndb``. Few bins, so that each holds enough: a bin counts as missing only where the data's
    share leads one to expect at least 5 samples.
    """
    in_real, in_fake = histograms(real, fake, bins, real if train is None else train, seed)
    if len(in_real) < 2:
        return Measurement(float("nan"), name="missing_mass", n=len(fake), direction="lower", note=ONE_BIN)
    p, q = in_real / in_real.sum(), in_fake / in_fake.sum()
    missing = (q < p / 10) & (p * in_fake.sum() >= 5)
    note = f"no interval: a count of bins at this n; {int(missing.sum())} of {len(p)} bins are missing"
    return Measurement(float(p[missing].sum()), name="missing_mass", n=len(fake), direction="lower", note=note)


def repetitions(real: np.ndarray, fake: np.ndarray) -> Measurement:
    """Share of samples that repeat another sample, less that share among real examples; 0 is best, 1 repeats throughout.

    real ``(N, d)``, fake ``(M, d)``: features. Both are cut to the same number at random, since fellows are nearer in larger sets. A
    repetition is less than half as far from its nearest fellow as 99 % of real examples are from theirs (blurred samples
    crowd together, too, but not that much). Newcombe interval for half the number of samples: if one repeats another, the other
    repeats the one, so that they count in twos.
    """
    real, fake = feature_sets(real, fake)
    n = min(len(real), len(fake))
    in_real, in_fake = (nearest(x, x, skip_self=True)[0][:, 0] for x in (sampled(real, n), sampled(fake, n)))
    apart = in_real[in_real > 0]  # exact twins among the data must not make the threshold 0
    threshold = REPEAT_FACTOR * np.quantile(apart, REPEAT_QUANTILE) if apart.size else 0.0
    share, usual = float((in_fake <= threshold).mean()), float((in_real <= threshold).mean())
    low, high = newcombe(share, n / 2, usual, n / 2)
    interval = "newcombe, of pairs"
    return Measurement(share - usual, name="repetitions", low=low, high=high, n=n, direction="lower", interval=interval)


class View(NamedTuple):
    """The same three sets seen one way: as features or as pixels, ``(N, d)`` each."""

    real: np.ndarray
    fake: np.ndarray
    train: np.ndarray


def collapse_verdict(
    real: np.ndarray, fake: np.ndarray, train: np.ndarray | None = None, seed: int = 0, pixels: View | None = None
) -> Measurement:
    """1 if the model has collapsed, else 0; ``note`` gives the figures.

    Collapsed: bins (``missing_mass``, 20 or fewer) that hold a quarter of the data are missing, or repetitions exceed those
    among real data by a quarter for certain (lower end of the interval).

    pixels: the images behind a network's features. With them the bins are those of the features only where two thirds of the
    samples lie near the data there (``near_share``), else those of the pixels, if samples lie near the data in pixels; and what
    repeats in pixels is a repetition, too. Without them (coordinates, pixels themselves) the bins are always counted.

    real ``(N, d)``, fake ``(M, d)``, train ``(L, d)``. Raises BenchError for features that are not finite matrices of
    one width.
    """
    seen = View(*feature_sets(real, fake, real if train is None else train))
    return _verdict(seen, *collapse_evidence(*seen, seed), seed, pixels)


def near_share(real: np.ndarray, fake: np.ndarray, train: np.ndarray) -> float:
    """Share of samples that are as near to their nearest training example as 95 % of held-out examples are to theirs."""
    real, fake, train = feature_sets(real, fake, train)
    limit = np.quantile(nearest(real, train)[0][:, 0], NEAR_QUANTILE)
    return float((nearest(fake, train)[0][:, 0] <= limit).mean())


def collapse_evidence(
    real: np.ndarray, fake: np.ndarray, train: np.ndarray | None = None, seed: int = 0
) -> tuple[Measurement, Measurement]:
    """``missing_mass``, with as many of 20 bins as have 10 examples and 10 samples each, and ``repetitions``."""
    real, fake, train = feature_sets(real, fake, real if train is None else train)
    return _missing(real, fake, train, seed), repetitions(real, fake)


def _missing(real: np.ndarray, fake: np.ndarray, train: np.ndarray, seed: int) -> Measurement:
    bins = max(2, min(BINS, len(train) // 10, len(fake) // 10))
    return missing_mass(real, fake, bins, train, seed)


def _verdict(seen: View, missing: Measurement, repeated: Measurement, seed: int, pixels: View | None) -> Measurement:
    """seen, missing, repeated: the features and what ``collapse_evidence`` says of them."""
    repeating, where = [repeated], ""
    if pixels is not None:
        repeating.append(repetitions(pixels.real, pixels.fake))
        missing, where = _counted(seen, missing, seed, pixels)
    certain = any(each.low is not None and each.low > LIMIT for each in repeating)
    most = max(float(each) for each in repeating)
    mass = "cannot be told" if np.isnan(float(missing)) else f"{float(missing):.0%}"
    note = f"missing mass{where} {mass}, repetitions {most:+.0%}; a verdict, no interval"
    return Measurement(float(missing > LIMIT or certain), name="collapsed", n=repeated.n, direction="lower", note=note)


def _counted(seen: View, missing: Measurement, seed: int, pixels: View) -> tuple[Measurement, str]:
    """The missing mass where kinds can be counted, and where that is; 0 where samples lie near the data in neither view."""
    in_features = near_share(*seen)
    if in_features >= NEAR_SHARE:
        return missing, " in features"
    in_pixels = near_share(*pixels)
    if in_pixels >= NEAR_SHARE:
        return _missing(*pixels, seed), f" in pixels ({in_features:.0%} of samples near the data in features)"
    nothing = Measurement(0.0, name=missing.name, n=missing.n, direction=missing.direction)
    return nothing, f" not counted ({max(in_features, in_pixels):.0%} of samples near the data)"


class Collapse(Metric):
    """Mode collapse on the widest layer: data left out (missing mass), samples that repeat one another, and a verdict."""

    paper = "On GANs and GMMs, Richardson, Weiss 2018 (arXiv 1805.12462)"
    needs = frozenset({"features", "train"})

    def __init__(self, layer: str | None = None) -> None:
        """layer: default the widest."""
        self.layer = layer

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        train, real, fake = (evidence.features(split, layer) for split in ("train", "real", "fake"))
        missing, repeated = collapse_evidence(real, fake, train, evidence.seed)
        data, pixels = evidence.data, None
        if isinstance(data.space, ImageSpace):
            pixels = View(*(_flat(images) for images in (data.test, evidence.samples, data.train)))
        found = [missing, repeated, _verdict(View(real, fake, train), missing, repeated, evidence.seed, pixels)]
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in found]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)
