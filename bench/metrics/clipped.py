"""Clipped Density and Clipped Coverage: fidelity and coverage that read as "equivalent share of good samples"."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats
from scipy.special import gammaln

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import whole_number
from bench.metrics.intervals import FEWEST_DIFFERENT, SMALLEST_N, differing, mean_of
from bench.metrics.layers import first_layer, named_after, with_setting
from bench.metrics.manifold import Points, balls_around
from bench.metrics.neighbours import feature_sets, nearest
from bench.metrics.order import shuffled
from bench.record import Measurement
from bench.stats.intervals import wilson_interval

BLOCKS = 10
FEWEST_SAMPLES = 100  # for an interval of Clipped Coverage: with 50 it covered 88 %
SURFACE = 1 + 1e-12  # times a squared radius: a sample on the surface (a copied neighbour) is inside


def clipped_density(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Measurement:
    """Fidelity: 0 where no sample is near real data, 1 where samples are as deep among real data as real data are.

    real ``(N, d)``, fake ``(M, d)``: features. The ball of a real example reaches to its k-th nearest fellow, but no farther than
    the median of those radii. Each sample scores min(1, balls that hold it / k); the mean of that, over the same mean for
    the real examples themselves (each without its own ball), at most 1. Interval over samples, reference fixed.
    "Enhanced Generative Model Evaluation with Clipped Density and Coverage", Salvy, Talbot, Thirion 2026 (arXiv 2507.01761).

    Higher is better. Raises BenchError for features that are not finite matrices of one width.
    """
    real, fake = _checked(real, fake, k)
    real = shuffled(real)  # of equally near fellows the first count
    distances, indices = nearest(real, real, k, skip_self=True)
    radius = np.minimum(distances[:, -1], np.median(distances[:, -1]))
    # a ball this small holds none but the k nearest fellows (ties aside), so that they give the count among real data
    inside = distances <= radius[:, None]
    of_real = np.minimum(np.bincount(indices[inside], minlength=len(real)) / k, 1).mean()
    of_fake = np.minimum(balls_around(fake, Points(real), SURFACE * radius**2) / k, 1)
    measured = mean_of(of_fake / of_real, name="clipped_density", direction="higher")
    if len(fake) >= SMALLEST_N and differing(of_fake) < FEWEST_DIFFERENT:
        share = wilson_interval(
            float(of_fake.sum()), len(fake)
        )  # values in [0, 1] vary at most as much as a share does
        assert share.bounds
        ends = [end / of_real for end in share.bounds]
        measured = measured.replace(low=ends[0], high=ends[1], interval="wilson", note=None)
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (measured.low, measured.high))
    return measured.replace(value=min(1.0, measured), low=low, high=high)


def clipped_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Measurement:
    """Coverage of real data: the share of samples from the true distribution that would cover it as well. 1 is best.

    real ``(N, d)``, fake ``(M, d)``: features. Each real example scores min(k, samples in its ball) / k, the ball reaching to its
    k-th nearest fellow; the mean of that is turned into the number m of true samples of which it is the expected score
    (``expected_coverage``), over M.

    Interval: delete-a-block jackknife over samples on the uncalibrated scale, both ends calibrated; it holds the calibrated
    *expected* score for this reference (the mean of values cut at 1 lies below that). None below 100 samples, nor where fewer
    than 10 of them lie in a ball. It does not
    cover the draw of the reference, which weighs where M is well above N and calibration is steep: with N = 300 and
    M = 1000 true samples score about 0.83 to 1 by reference. Compare models on one reference, and beside its floor.
    Source: as ``clipped_density``.

    Raises BenchError for features that are not finite matrices of one width.
    """
    real, fake = _checked(real, fake, k)
    radius = nearest(real, real, k, skip_self=True)[0][:, -1]
    n, m = len(real), len(fake)
    of_blocks = _nearest_in_blocks(real, fake, k)
    raw = _raw_coverage(of_blocks, radius, k)
    plain = Measurement(calibrated(raw, n, m, k), name="clipped_coverage", n=m, direction="higher")
    if m < FEWEST_SAMPLES:
        return plain.replace(note=f"no interval: {m} samples are below {FEWEST_SAMPLES}")
    held = int((balls_around(fake, Points(real), SURFACE * radius**2) > 0).sum())
    if held < FEWEST_DIFFERENT:
        return plain.replace(note=f"no interval: only {held} of {m} samples are near real ones")
    without = [_raw_coverage(of_blocks[:b] + of_blocks[b + 1 :], radius, k) for b in range(BLOCKS)]
    error = (BLOCKS - 1) / np.sqrt(BLOCKS) * np.std(without, ddof=1)
    half = float(stats.t.ppf(0.975, BLOCKS - 1)) * error
    low, high = (calibrated(raw + end, n, m, k) for end in (-half, half))
    return plain.replace(low=low, high=high, interval="block jackknife")


def uncalibrated_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> float:
    """The mean over real examples of min(k, samples in the ball) / k, before ``calibrated`` turns it into a share."""
    real, fake = _checked(real, fake, k)
    radius = nearest(real, real, k, skip_self=True)[0][:, -1]
    return _raw_coverage(_nearest_in_blocks(real, fake, k), radius, k)


def expected_coverage(n: int, m: np.ndarray, k: int) -> np.ndarray:
    """Expected uncalibrated Clipped Coverage of ``m`` samples from the true distribution, with ``n`` real examples.

    The k-th of n - 1 fellows is as likely as not before a sample: the number J of the m samples inside the ball is negative
    hypergeometric, and the score is E[min(J, k)] / k = 1 - sum over j < k of (1 - j/k) P(J = j).
    """
    m = np.asarray(m, dtype=np.float64)
    fellows = n - 1
    score = np.ones_like(m)
    for j in range(k):
        possible = m >= j
        at = m[possible]
        log_p = _log_choose(j + k - 1, j) + _log_choose(fellows - k + at - j, at - j) - _log_choose(fellows + at, at)
        score[possible] -= (1 - j / k) * np.exp(log_p)
    return score


def calibrated(raw: float, n: int, m: int, k: int) -> float:
    """The share of ``m`` samples whose ``expected_coverage`` is ``raw``, in [0, 1]; linear between whole numbers."""
    return float(np.interp(raw, _curve(n, m, k), np.linspace(0, 1, m + 1)))


@functools.lru_cache(maxsize=8)
def _curve(n: int, m: int, k: int) -> np.ndarray:
    return expected_coverage(n, np.arange(m + 1), k)


def _nearest_in_blocks(real: np.ndarray, fake: np.ndarray, k: int) -> list[np.ndarray]:
    """Distances from each real example to the nearest samples of each block; together they hold the k nearest of all."""
    fake = shuffled(fake)
    blocks = [fake[block::BLOCKS] for block in range(min(BLOCKS, len(fake)))]
    return [nearest(real, block, min(k, len(block)))[0] for block in blocks]


def _raw_coverage(of_blocks: list[np.ndarray], radius: np.ndarray, k: int) -> float:
    """Mean over real examples of min(k, samples in the ball) / k, from nearest distances to blocks of the samples."""
    inside = sum((distances <= radius[:, None]).sum(1) for distances in of_blocks)
    return float(np.minimum(inside, k).mean() / k)


def _log_choose(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    return gammaln(np.asarray(n) + 1.0) - gammaln(np.asarray(k) + 1.0) - gammaln(np.asarray(n) - np.asarray(k) + 1.0)


def _checked(real: np.ndarray, fake: np.ndarray, k: int) -> list[np.ndarray]:
    real, fake = feature_sets(real, fake)
    whole_number(k, "k")
    if not 1 <= k < len(real) - 1:
        raise BenchError(f"k = {k} neighbours need more than {k + 1} real examples, not {len(real)}")
    return [real, fake]


class Clipped(Metric):
    """Clipped Density (fidelity) and Clipped Coverage, calibrated to the equivalent share of good samples, on the widest layer."""

    paper = (
        "Enhanced Generative Model Evaluation with Clipped Density and Coverage, Salvy et al. 2026 (arXiv 2507.01761)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, k: int = 5) -> None:
        """layer: default the widest. k: nearest neighbours; other than 5 they stand in the names (``clipped_density_k3_*``)."""
        self.layer, self.k = layer, whole_number(k, "k", 1)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
        found = [clipped_density(real, fake, self.k), clipped_coverage(real, fake, self.k)]
        return [m.replace(name=named_after(with_setting(m.name, "k", self.k, 5), evidence, layer)) for m in found]
