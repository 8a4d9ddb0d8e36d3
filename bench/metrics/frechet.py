"""Fréchet distance between Gaussian fits of two feature sets: FID with the Inception network, FD with any other.

    FD = |mu_r - mu_f|^2 + tr S_r + tr S_f - 2 tr (S_r^1/2 S_f S_r^1/2)^1/2

"GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", Heusel et al. 2017 (arXiv 1706.08500);
the formula is that of Dowson and Landau 1982. All of it in float64, with no matrix square root of a product.

The distance of two finite samples lies above that of their distributions, often by many standard errors, so two numbers
are offered: the raw one, comparable with papers at the same n, and the corrected one, an estimate of the distributions'
distance. See ``bench.metrics.frechet_interval``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lapack

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.frechet_interval import leave_one_out
from bench.metrics.inputs import Features, feature_pair, to_numpy
from bench.metrics.layers import first_layer, named_with_layer
from bench.metrics.moments import Moments
from bench.record import Measurement
from bench.stats.moments import checked_moments

SMALLEST_RATIO = 1.2
"""An interval needs this many samples per dimension in both sets; below, neither the bias nor its error is known."""

UNSURE_BIAS = 0.1
"""Share of the removed bias that counts as its error: near 1.2 samples a dimension terms beyond the first order are left of it."""

SINGULAR = "no interval: a covariance is singular (constant or repeated features); see the kernel distance"
RAW_INTERVAL = "jackknife, for the mean of the raw value at this n"


def frechet_distance(real: Features, fake: Features, *, interval: bool = True) -> Measurement:
    """Fréchet distance ``fd`` >= 0 of features ``(N, d)`` and ``(M, d)``, M and N >= 2; lower is better. n: M.

    The value is the plain estimate, biased upwards by about d/n. Its interval therefore is one for the *mean* of this
    estimate at these sample sizes (what another draw of the same size would give), not for the distance of the
    distributions: for that see ``frechet_distance_corrected``. None where a set has fewer samples than ``smallest_n``: 1.2 d, and at
    least 500 of one or two dimensions, 100 of up to seven, 30 of more.

    interval: False leaves it out and takes about a third of the time. Raises BenchError for unusable features.
    """
    reference, samples = feature_pair(real, fake)
    moments = Moments.of(reference), Moments.of(samples)
    raw = _raw(reference, samples, *moments)
    if not interval:
        return raw.replace(note="no interval asked for")
    return _with_interval(raw, reference, samples, *moments)[0]


def frechet_distance_corrected(real: Features, fake: Features) -> Measurement:
    """Bias-corrected Fréchet distance ``fd_corrected`` with its 95 % interval for the distance of the distributions.

    The bias is removed by a delete-one jackknife over both sets, exactly evaluated for every example. Equal distributions
    give values about 0, negative ones too: "not distinguishable from the reference". NaN, with a note, where a set has
    fewer samples than ``smallest_n(d)``: take the kernel distance there.

    real ``(N, d)``, fake ``(M, d)``; lower is better. Raises BenchError for unusable features.
    """
    return frechet_distances(real, fake)[1]


def frechet_distances(real: Features, fake: Features) -> tuple[Measurement, Measurement]:
    """(``fd``, ``fd_corrected``) from the same work."""
    reference, samples = feature_pair(real, fake)
    moments = Moments.of(reference), Moments.of(samples)
    return _with_interval(_raw(reference, samples, *moments), reference, samples, *moments)


def frechet_distance_from_stats(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> Measurement:
    """Fréchet distance of two Gaussians given by means ``(d,)`` and covariances ``(d, d)``; no interval, n unknown.

    Raises BenchError unless shapes agree and the covariances are finite, symmetric and without a correlation beyond 1. (That
    they have no negative eigenvalue is not checked: it would cost as much as the distance.)

    Lower is better.
    """
    (m1, s1), (m2, s2) = (
        checked_moments(to_numpy(mu1), to_numpy(sigma1), "the first statistics"),
        checked_moments(to_numpy(mu2), to_numpy(sigma2), "the second statistics"),
    )
    if len(m1) != len(m2):
        raise BenchError(f"statistics of {len(m1)} and of {len(m2)} dimensions have no distance; use one feature layer")
    note = "no interval: it needs the features themselves, not their mean and covariance"
    return Measurement(FrechetTo(m1, s1)(m2, s2), name="fd", direction="lower", note=note)


class FrechetTo:
    """The distance of any Gaussian to one reference, whose factorisation is done once; lower triangles suffice."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        self.mean, self.covariance = mean, covariance
        factor, failed = lapack.dpotrf(covariance.T, lower=0, clean=0)  # U'U = S; the transpose is in LAPACK's order
        self.factor: np.ndarray | None = None if failed else factor

    @classmethod
    def features(cls, features: np.ndarray) -> FrechetTo:
        moments = Moments.of(features)
        return cls(moments.mean, moments.lower_covariance())

    def __call__(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        return _distance(self.mean, self.covariance, mean, covariance, self.cross_trace(covariance))

    def cross_trace(self, other: np.ndarray) -> float:
        """tr (S^1/2 O S^1/2)^1/2 for the reference's covariance S.

        With S = U'U the eigenvalues of U O U' are those wanted, and that matrix is symmetric. Where one is singular: the
        singular values of S^1/2 O^1/2.
        """
        import torch  # here: accumulators in other processes need none of it

        if self.factor is not None:
            product, _ = lapack.dsygst(other.T, self.factor, itype=2, lower=0)
            # from the lower triangle: from the upper one, small eigenvalues would come out with the error of large ones
            eigenvalues = torch.linalg.eigvalsh(torch.from_numpy(product.T), UPLO="L")
            if eigenvalues[0] > 0:
                return float(eigenvalues.sqrt().sum())
        return _cross_trace_of_singular(self.covariance, other)


def _cross_trace_of_singular(sigma1: np.ndarray, sigma2: np.ndarray) -> float:
    (values1, vectors1), (values2, vectors2) = np.linalg.eigh(sigma1), np.linalg.eigh(sigma2)  # of lower triangles
    roots1, roots2 = (np.sqrt(np.clip(values, 0, None)) for values in (values1, values2))
    return float(np.linalg.svd(roots1[:, None] * (vectors1.T @ vectors2) * roots2, compute_uv=False).sum())


def _cross_trace_of_few(real: np.ndarray, fake: np.ndarray) -> float:
    """The same from features when a set has at most d samples: the nuclear norm of the centred cross product."""
    rows1, rows2 = _centred_factor(real), _centred_factor(fake)
    return float(np.linalg.svd(rows1 @ rows2.T, compute_uv=False).sum())


def _centred_factor(features: np.ndarray) -> np.ndarray:
    """A matrix F of at most d rows with F' F = covariance."""
    centred = features.astype(np.float64)
    centred -= centred.mean(0)
    centred /= np.sqrt(len(centred) - 1)
    return centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray, cross: float) -> float:
    shift = mu1 - mu2
    return max(0.0, float(shift @ shift + np.trace(sigma1) + np.trace(sigma2) - 2 * cross))


def _raw(real: np.ndarray, fake: np.ndarray, real_moments: Moments, fake_moments: Moments) -> Measurement:
    sigma1, sigma2 = real_moments.lower_covariance(), fake_moments.lower_covariance()
    if min(len(real), len(fake)) <= real.shape[1]:
        cross = _cross_trace_of_few(real, fake)
        value = _distance(real_moments.mean, sigma1, fake_moments.mean, sigma2, cross)
    else:
        value = FrechetTo(real_moments.mean, sigma1)(fake_moments.mean, sigma2)
    return Measurement(value, name="fd", n=len(fake), direction="lower")


def _with_interval(
    raw: Measurement, real: np.ndarray, fake: np.ndarray, real_moments: Moments, fake_moments: Moments
) -> tuple[Measurement, Measurement]:
    n, d = min(len(real), len(fake)), real.shape[1]
    corrected = Measurement(np.nan, name="fd_corrected", n=len(fake), direction="lower")
    if n < smallest_n(d):
        note = _too_few(n, d)
        return raw.replace(note=note), corrected.replace(note=note.replace("no interval", "not estimated"))
    try:
        bias, half = leave_one_out(real, fake, real_moments, fake_moments)
    except np.linalg.LinAlgError:
        return raw.replace(note=SINGULAR), corrected.replace(note=SINGULAR.replace("no interval", "not estimated"))
    value = float(raw) - bias
    unsure = math.hypot(half, UNSURE_BIAS * bias)
    return (
        raw.replace(low=max(0.0, raw - half), high=raw + half, interval=RAW_INTERVAL),
        corrected.replace(value=value, low=value - unsure, high=value + unsure, interval="jackknife"),
    )


def smallest_n(d: int) -> int:
    """From how many samples on an interval covers as it should: 1.2 d, and more of few dimensions, where hardly more than the
    squares of some few normal variables is left of the distance of two similar sets."""
    least = 500 if d < 3 else 100 if d < 8 else 30
    return max(least, math.ceil(SMALLEST_RATIO * d))


def _too_few(n: int, d: int) -> str:
    return (
        f"no interval: {n} samples are too few for {d} dimensions ({smallest_n(d)} are needed); see the kernel distance"
    )


class Frechet(Metric):
    """Fréchet distance of features, raw and bias-corrected with an interval (FID on standard Inception features)."""

    paper = (
        "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, "
        "Heusel et al. 2017 (arXiv 1706.08500)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None) -> None:
        """layer: the extractor's layer; default ``mid`` where there is one, else ``final``, ``pool`` or the widest."""
        self.layer = layer

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        raw, corrected = frechet_distances(evidence.features("real", layer), evidence.features("fake", layer))
        if evidence.extractor == "inception" and layer == "pool":
            return [raw.replace(name="fid"), corrected.replace(name="fid_corrected")]
        return [m.replace(name=named_with_layer(m.name, evidence, layer)) for m in (raw, corrected)]
