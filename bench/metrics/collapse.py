"""Mode collapse: does the model leave out kinds of data, or repeat itself?

A shift of all samples (grain, blur) empties any region of the data, yet is no loss of diversity. So three kinds of evidence are
kept apart: what is left out counts only where samples lie near the data; repetitions and spread do not depend on where they lie.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bench.metrics.base import Evidence, Metric
from bench.metrics.bins import spread
from bench.metrics.intervals import newcombe
from bench.metrics.layers import named_after, widest_layer
from bench.metrics.neighbours import check_features, nearest
from bench.record import Measurement
from bench.space import ImageSpace

REPEAT_QUANTILE = 0.01
REPEAT_FACTOR = 0.5
"""A repetition is less than half as far from a fellow sample as 99 % of real examples are from theirs, in equal sets."""

NEIGHBOURS = 10
"""Around a real example of a kind that the model makes as often as it should, half of so many neighbours are samples."""

NEAR_QUANTILE = 0.9
"""A sample lies outside of the data if it is further from its nearest real example than 90 % of real examples are from theirs."""

OUTSIDE_FACTOR = 2
"""A corruption that moves a share of samples outside of the data empties at most about twice that share of it (measured: blur, JPEG)."""

LEFT_OUT_LIMIT = 0.2
REPEAT_LIMIT = 0.25
SPREAD_LIMIT = 0.05
"""A collapse: a fifth of the data left out, a quarter of the samples repetitions, or a twentieth of the data's variance."""


@dataclasses.dataclass(frozen=True)
class CollapseEvidence:
    """What a verdict rests on: measurements of the features and, where there are any, the spread of the pixels."""

    missing: Measurement
    outside: float
    repeated: Measurement
    spread: Measurement
    pixel_spread: float | None = None

    @property
    def reasons(self) -> list[str]:
        """The evidence that speaks for a collapse, in words; empty where none does."""
        found = []
        if float(self.missing) - OUTSIDE_FACTOR * self.outside > LEFT_OUT_LIMIT:
            found.append("data are left out")
        if self.repeated.low is not None and self.repeated.low > REPEAT_LIMIT:
            found.append("samples repeat one another")
        if max(float(self.spread), self.pixel_spread or 0.0) < SPREAD_LIMIT:
            found.append("samples hardly vary")
        return found

    @property
    def note(self) -> str:
        pixels = "" if self.pixel_spread is None else f", in pixels {self.pixel_spread:.0%}"
        return (
            f"{' and '.join(self.reasons) or 'no evidence of a collapse'}: missing mass {float(self.missing):.0%} with "
            f"{self.outside:.0%} of samples outside of the data, repetitions {float(self.repeated):+.0%}, variance "
            f"{float(self.spread):.0%} of the data's{pixels}; a verdict, no interval"
        )


def missing_mass(real: np.ndarray, fake: np.ndarray) -> Measurement:
    """Share of real examples that have (nearly) no samples about them; 0 is best, 1 where samples lie elsewhere altogether.

    real ``(N, d)``, fake ``(M, d)``: features, both cut to the same number. An example is left out if at most one of its 10 nearest
    neighbours in the union of both sets is a sample (about 1 % of examples of a perfect model are). Distribution-free, as
    the nearest-neighbour tests of two samples; "On GANs and GMMs", Richardson and Weiss 2018 (arXiv 1805.12462) count bins instead.
    """
    check_features(real, fake)
    n = min(len(real), len(fake))
    kept, samples = spread(real, n), spread(fake, n)
    k = max(1, min(NEIGHBOURS, n // 4))
    both = np.concatenate([kept, samples])
    near = nearest(kept, both, k + 1)[1]
    own = near == np.arange(n)[:, None]
    own[~own.any(1), -1] = True  # one of more than k copies of itself
    share = float((((near >= n) & ~own).sum(1) <= k // NEIGHBOURS).mean())
    note = f"no interval: a share of neighbourhoods at this n, of {k} neighbours each"
    return Measurement(share, name="missing_mass", n=n, direction="lower", note=note)


def outside_share(real: np.ndarray, fake: np.ndarray) -> float:
    """Share of samples outside of the data, beyond the tenth of which that is true of real examples; 0 to 0.9."""
    check_features(real, fake)
    n = min(len(real), len(fake))
    kept = spread(real, n)
    usual = np.quantile(nearest(kept, kept, skip_self=True)[0][:, 0], NEAR_QUANTILE)
    return max(0.0, float((nearest(spread(fake, n), kept)[0][:, 0] > usual).mean()) - (1 - NEAR_QUANTILE))


def repetitions(real: np.ndarray, fake: np.ndarray) -> Measurement:
    """Share of samples that repeat another sample, less that share among real examples; 0 is best, 1 repeats throughout.

    real ``(N, d)``, fake ``(M, d)``: features. Both are cut to the same number, since fellows are nearer in larger sets. A
    repetition is less than half as far from its nearest fellow as 99 % of real examples are from theirs; where samples vary less
    than the data as a whole (blurred ones crowd together), these distances are reduced in the same proportion. Newcombe interval
    for half the number of samples: if one repeats another, the other repeats the one, so that they count in twos.
    """
    check_features(real, fake)
    n = min(len(real), len(fake))
    kept, samples = spread(real, n), spread(fake, n)
    in_real, in_fake = (nearest(x, x, skip_self=True)[0][:, 0] for x in (kept, samples))
    threshold = REPEAT_FACTOR * np.quantile(in_real, REPEAT_QUANTILE)
    crowded = min(1.0, _variance(samples) / max(_variance(kept), 1e-30)) ** 0.5
    share, usual = float((in_fake <= crowded * threshold).mean()), float((in_real <= threshold).mean())
    low, high = newcombe(share, n / 2, usual, n / 2)
    interval = "newcombe, of pairs"
    return Measurement(share - usual, name="repetitions", low=low, high=high, n=n, direction="lower", interval=interval)


def variance_ratio(real: np.ndarray, fake: np.ndarray) -> Measurement:
    """Trace of the samples' covariance over that of the data's: mean squared distance of two samples against two examples."""
    check_features(real, fake)
    ratio = _variance(fake) / max(_variance(real), 1e-30)
    note = "no interval: a ratio that a verdict rests on; 1 where samples vary as the data do"
    return Measurement(ratio, name="variance_ratio", n=len(fake), note=note)


def collapse_verdict(
    real: np.ndarray, fake: np.ndarray, real_pixels: np.ndarray | None = None, fake_pixels: np.ndarray | None = None
) -> Measurement:
    """1 if the model has collapsed, else 0; ``note`` gives the figures and which of them spoke.

    Collapsed, if any of: missing mass, less twice the share of samples that lie outside of the data, exceeds a fifth; repetitions
    exceed those among real data by a quarter for certain (lower end of the interval); samples have less than a twentieth of the
    data's variance, in features and in pixels ``(N, ...)`` (a network sees noise as all the same).
    """
    return _verdict(collapse_evidence(real, fake, real_pixels, fake_pixels))


def collapse_evidence(
    real: np.ndarray, fake: np.ndarray, real_pixels: np.ndarray | None = None, fake_pixels: np.ndarray | None = None
) -> CollapseEvidence:
    """All that the verdict rests on."""
    pixels = None
    if real_pixels is not None and fake_pixels is not None:
        pixels = _variance(fake_pixels) / max(_variance(real_pixels), 1e-30)
    return CollapseEvidence(
        missing_mass(real, fake), outside_share(real, fake), repetitions(real, fake), variance_ratio(real, fake), pixels
    )


def _verdict(evidence: CollapseEvidence) -> Measurement:
    found = float(bool(evidence.reasons))
    return Measurement(found, name="collapsed", n=evidence.repeated.n, direction="lower", note=evidence.note)


def _variance(x: np.ndarray) -> float:
    """Trace of the covariance of ``(N, ...)``."""
    return float(x.reshape(len(x), -1).astype(np.float64).var(0).sum())


class Collapse(Metric):
    """Mode collapse on the widest layer: data left out, samples that repeat one another or hardly vary, and a verdict."""

    paper = "On GANs and GMMs, Richardson, Weiss 2018 (arXiv 1805.12462)"
    needs = frozenset({"features"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = widest_layer(evidence)
        real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
        images = isinstance(evidence.data.space, ImageSpace)
        pixels = (evidence.data.test, evidence.samples) if images else (None, None)
        found = collapse_evidence(real, fake, *pixels)
        measured = [found.missing, found.repeated, found.spread, _verdict(found)]
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in measured]
