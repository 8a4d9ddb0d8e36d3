"""Mode coverage where the modes are known: Gaussian mixtures, stacked MNIST, sprites with known factors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.bins import divergence, kullback_leibler
from bench.metrics.inputs import (
    Features,
    checked_images,
    class_vector,
    real_number,
    real_numbers,
    to_numpy,
    whole_number,
)
from bench.metrics.intervals import mean_of, proportion_of
from bench.record import Measurement

HIGH_QUALITY = 3.0
"""A sample belongs to a mode of a Gaussian mixture if it lies within so many standard deviations of its centre."""

COVERED = 0.1
"""A level of a factor is covered if samples have it at least a tenth as often as the data."""


def mixture_modes(samples: Features, centers: Features, std: float) -> list[Measurement]:
    """Coverage of an equally weighted mixture of round Gaussians, centers ``(K, d)``, by samples ``(N, d)``.

    Returns ``modes_captured`` (centres with a high-quality sample, i.e. one within 3 ``std``; of K), ``high_quality`` (share of
    samples that are; 0.989 for the plane's true distribution), ``mode_kl`` (reverse KL in nats of the high-quality samples' mode
    histogram to uniform). "VEEGAN", Srivastava et al. 2017 (arXiv 1705.07761); "Unrolled Generative Adversarial Networks",
    Metz et al. 2017 (arXiv 1611.02163).

    Higher is better, of ``mode_kl`` lower. Raises BenchError where samples and centres are no numbers, none, or have not one d.
    """
    points, centres = (
        real_numbers(to_numpy(each), what).astype(np.float64)
        for each, what in ((samples, "samples"), (centers, "centers"))
    )
    if (
        points.ndim != 2
        or centres.ndim != 2
        or not (points.size and centres.size)
        or points.shape[1] != centres.shape[1]
    ):
        raise BenchError(
            f"samples {points.shape} do not lie in the space of the centres {centres.shape}; give at least one of each, (N, d) and (K, d)"
        )
    if real_number(std, "std") <= 0:
        raise BenchError(f"std must be above 0, not {std}")
    mode, distance = _nearest_centre(points, centres)
    good = distance <= HIGH_QUALITY * std  # NaN samples are not good
    counts = np.bincount(mode[good], minlength=len(centres))
    share = proportion_of(good, name="high_quality")
    return [modes_captured(counts, len(points)), share, mode_kl(counts)]


def modes_captured(counts: np.ndarray, n: int) -> Measurement:
    """How many of the modes have at least one of ``n`` samples; counts ``(K,)`` per mode. It depends on n: compare at equal n."""
    captured = int((np.asarray(counts) > 0).sum())
    note = f"of {len(counts)}; no interval: a count at this n"
    return Measurement(captured, name="modes_captured", n=n, unit="modes", direction="higher", note=note)


def mode_kl(counts: np.ndarray) -> Measurement:
    """Reverse KL(samples || uniform) in nats over K modes from counts ``(K,)``: 0 is even, ln K a single mode."""
    uniform = np.full(len(counts), 1 / len(counts))
    return divergence(lambda p: kullback_leibler(p, uniform), [counts], name="mode_kl")


def stacked_modes(images: np.ndarray, classify: Callable[[np.ndarray], np.ndarray]) -> list[Measurement]:
    """Coverage of the 1000 modes of stacked MNIST by uint8 images ``(N, H, W, 3)``: ``modes_captured`` and ``mode_kl``.

    classify: uint8 ``(M, H, W, 1)`` -> digit of each, ``(M,)``. The mode is 100 x red + 10 x green + blue digit. Its mistakes are
    counted as modes: read the count beside the classifier's accuracy. "Unrolled Generative Adversarial Networks", Metz et al.
    2017 (arXiv 1611.02163).

    Higher is better, of ``mode_kl`` lower. Raises BenchError for anything but uint8 images of three channels, and where
    ``classify`` gives anything but a digit for each.
    """
    images = checked_images(images)
    if images.shape[3] != 3:
        raise BenchError(f"stacked digits are images of 3 channels, not {images.shape[3]}; stack three grey ones")
    digits = [
        class_vector(classify(images[..., channel : channel + 1]), "digits that classify gave", len(images), 10)
        for channel in range(3)
    ]
    counts = np.bincount(100 * digits[0] + 10 * digits[1] + digits[2], minlength=1000)
    return [modes_captured(counts, len(images)), mode_kl(counts)]


def factor_coverage(
    fake_factors: dict[str, np.ndarray], real_factors: dict[str, np.ndarray], levels: dict[str, int]
) -> list[Measurement]:
    """Which levels of each generative factor the samples have: for each factor coverage and KL(samples || data).

    fake_factors, real_factors: factor -> level ``(N,)`` int64 of each sample / test example; levels: number of levels. A level is
    covered if samples have it at least a tenth as often as the data (``factor_coverage_<factor>``, share of the data's levels).

    Higher is better, of the divergences lower. Raises BenchError where a factor has no levels in one of the sets, or others than
    whole numbers from 0 to the number of levels less 1.
    """
    found = []
    for factor, size in levels.items():
        whole_number(size, f"the number of levels of '{factor}'", 1)
        counts = []
        for whose, factors in (("samples", fake_factors), ("test examples", real_factors)):
            if len(factors.get(factor, ())) == 0:
                raise BenchError(f"the factor '{factor}' is not known of the {whose}; give its level for each of them")
            of_each = class_vector(factors[factor], f"levels of '{factor}' of the {whose}", classes=size)
            counts.append(np.bincount(of_each, minlength=size))
        in_fake, in_real = counts
        q, p = in_fake / in_fake.sum(), in_real / in_real.sum()
        occurs = p > 0
        covered = int((q[occurs] >= COVERED * p[occurs]).sum())
        found.append(
            Measurement(
                covered / occurs.sum(),
                name=f"factor_coverage_{factor}",
                n=int(in_fake.sum()),
                direction="higher",
                note=f"{covered} of {int(occurs.sum())} levels; no interval: a count at this n",
            )
        )
        found.append(divergence(_reverse_kl, [in_real, in_fake], name=f"factor_kl_{factor}"))
    return found


def _reverse_kl(data: np.ndarray, samples: np.ndarray) -> float:
    return kullback_leibler(samples, data)


def _nearest_centre(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mode = np.zeros(len(points), dtype=np.int64)
    distance = np.full(len(points), np.inf)
    for index, centre in enumerate(centres):
        to_centre = np.linalg.norm(points - centre, axis=1)
        nearer = to_centre < distance
        mode[nearer], distance[nearer] = index, to_centre[nearer]
    return mode, distance


class Modes(Metric):
    """Modes captured, share of high-quality samples and reverse KL where the truth is known; per-factor coverage of sprites."""

    paper = "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning, Srivastava et al. 2017 (arXiv 1705.07761)"
    needs = frozenset({"truth"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        data = evidence.data
        if hasattr(data.truth, "centers"):
            return mixture_modes(evidence.samples, data.truth.centers, data.truth.std)
        if hasattr(data.truth, "recognise") and data.test_factors is not None:
            seen = data.truth.recognise(evidence.samples)
            quality = mean_of(seen.error, name="sprite_error", unit="grey levels")
            return [quality, *factor_coverage(seen.factors, data.test_factors, data.truth.levels)]
        return []


class StackedModes(Metric):
    """Modes of stacked MNIST captured, of 1000, and reverse KL; by a digit classifier trained on the training images."""

    paper = "Unrolled Generative Adversarial Networks, Metz et al. 2017 (arXiv 1611.02163)"
    needs = frozenset({"images", "labels"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        from bench.metrics.classes import train_classifier

        data = evidence.data
        if data.name != "stacked-mnist" or data.train_labels is None or data.test_labels is None:
            return []
        images, digits = _single_digits(data.test, data.test_labels)
        classify = train_classifier(*_single_digits(data.train, data.train_labels), images, digits)
        accuracy = proportion_of(classify(images) == digits, name="mode_classifier_accuracy", direction="none")
        return [*stacked_modes(evidence.samples, classify), accuracy]


def _single_digits(images: np.ndarray, modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stacked images and their modes -> the different digits ``(M, H, W, 1)`` they are made of, and the class of each."""
    channels = np.moveaxis(images, 3, 1).reshape(-1, *images.shape[1:3], 1)
    digits = np.stack([modes // 100, modes // 10 % 10, modes % 10], axis=1).ravel()
    first = np.unique(channels.reshape(len(channels), -1), axis=0, return_index=True)[1]
    return channels[first], digits[first]
