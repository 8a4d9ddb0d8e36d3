"""Perceptual diversity: how different two samples look on average, over all pairs, within classes and across them.

Pairs are disjoint (no sample is in two), so that their distances are independent and the interval is that of a mean; it
costs one look at each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError, did_you_mean
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, checked_images, seed_number, vector, whole_number
from bench.metrics.intervals import mean_of
from bench.metrics.order import order_of, sampled
from bench.metrics.ssim import WINDOW, ms_ssim, ms_ssim_scales
from bench.record import Measurement

if TYPE_CHECKING:
    from bench.features.pdist import PerceptualDistance

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two uint8 batches ``(B, H, W, C)`` -> ``(B,)`` distances. Its attribute ``name``, where it has one, names the measurement."""

BATCH = 64
OFFLINE = "effnetlite0"
UNCALIBRATED = "not calibrated to human judgement"


def lpips_diversity(images: Features, distance: Distance, pairs: int | None = None, seed: int = 0) -> Measurement:
    """Mean perceptual distance of pairs of samples; higher is more diverse. Named ``<distance>_diversity``.

    images: uint8 ``(N, H, W, C)``. pairs: how many disjoint pairs, drawn by ``seed``; default and at most N // 2.
    "Toward Multimodal Image-to-Image Translation", Zhu et al. 2017 (arXiv 1711.11586).

    Raises BenchError for anything but uint8 images, and for more pairs than there are.
    """
    images = checked_images(images)
    first, second = random_pairs(images, pairs, seed)
    return _mean_distance(images, first, second, distance, "diversity")


def lpips_diversity_by_class(
    images: Features, labels: Features, distance: Distance, seed: int = 0
) -> tuple[Measurement, Measurement]:
    """``lpips_diversity`` over pairs of one class (``..._within``) and over pairs of two different classes (``..._across``).

    images: uint8 ``(N, H, W, C)``; labels: ``(N,)``. Higher is more diverse; a model that repeats one picture a class has a large ``across``
    and no ``within``. Raises BenchError for anything but uint8 images, and labels of another length.
    """
    images = checked_images(images)
    labels = vector(labels, "labels", len(images))
    within = pairs_within(images, labels, seed)
    first, second = random_pairs(images, None, seed, labels)
    different = labels[first] != labels[second]
    return (
        _mean_distance(images, *within, distance, "diversity_within"),
        _mean_distance(images, first[different], second[different], distance, "diversity_across"),
    )


def reconstruction_distance(originals: Features, rebuilt: Features, distance: Distance) -> Measurement:
    """Mean perceptual distance of each uint8 image ``(N, H, W, C)`` to its reconstruction; lower is better.

    Named ``reconstruction_<distance>``. "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", Zhang et al.
    2018 (arXiv 1801.03924).

    Raises BenchError for anything but uint8 images of one shape.
    """
    first, second = checked_images(originals), checked_images(rebuilt)
    if first.shape != second.shape:
        raise BenchError(f"reconstructions {second.shape} and their originals {first.shape} must agree in shape")
    name = f"reconstruction_{getattr(distance, 'name', 'distance')}"
    return mean_of(_distances(first, second, distance), name=name)


def ms_ssim_diversity(
    images: Features, labels: Features | None = None, pairs: int | None = None, seed: int = 0
) -> Measurement:
    """Mean MS-SSIM of pairs of samples, of one class where there are labels; *lower* is more diverse.

    images: uint8 ``(N, H, W, C)``, sides at least 11; small ones have fewer than five scales (``note``). Compare with real data.
    "Conditional Image Synthesis with Auxiliary Classifier GANs", Odena, Olah, Shlens 2017 (arXiv 1610.09585).

    Raises BenchError for anything but uint8 images, labels of another length, or, without labels, more pairs than there are.
    """
    images = checked_images(images)
    first, second = (
        random_pairs(images, pairs, seed)
        if labels is None
        else pairs_within(images, vector(labels, "labels", len(images)), seed, pairs)
    )
    values = ms_ssim(images[first], images[second]) if len(first) else np.zeros(0)
    name = "ms_ssim_diversity" if labels is None else "ms_ssim_diversity_within"
    measured = mean_of(values, name=name)
    scales = f"scales: {ms_ssim_scales(*images.shape[1:3])}"
    return measured.replace(n=len(images), note=scales if measured.note is None else f"{scales}; {measured.note}")


def random_pairs(
    images: np.ndarray, pairs: int | None, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of ``pairs`` disjoint pairs out of ``(N, ...)`` images, each way round equally likely; the same for the same
    images (and labels) in another order."""
    n = len(images)
    most = n // 2
    wanted = most if pairs is None else whole_number(pairs, "pairs")
    if not 1 <= wanted <= most:
        raise BenchError(f"{n} samples give between 1 and {most} disjoint pairs, not {wanted}")
    kinds = [] if labels is None else [np.unique(labels, return_inverse=True)[1]]  # names of classes, too
    order = order_of(images, *kinds, seed=seed_number(seed))
    return order[:wanted], order[most : most + wanted]


def pairs_within(
    images: np.ndarray, labels: np.ndarray, seed: int, pairs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint pairs of ``(N, ...)`` images of equal label ``(N,)``, as many as there are (or a random ``pairs`` of them); the same
    for the same images in another order."""
    if pairs is not None:
        whole_number(pairs, "pairs", 1)
    order, labels = order_of(images, seed=seed_number(seed)), np.asarray(labels)
    rng = np.random.default_rng(seed)
    members = [order[labels[order] == label] for label in np.unique(labels)]
    first = np.concatenate([m[: len(m) // 2] for m in members])
    second = np.concatenate([m[len(m) // 2 : 2 * (len(m) // 2)] for m in members])
    chosen = rng.permutation(len(first))[:pairs]
    return first[chosen], second[chosen]


def _mean_distance(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, distance: Distance, what: str
) -> Measurement:
    name = f"{getattr(distance, 'name', 'distance')}_{what}"
    measured = mean_of(_distances(images[first], images[second], distance), name=name, direction="higher")
    return measured.replace(n=len(images))


def _distances(first: np.ndarray, second: np.ndarray, distance: Distance) -> np.ndarray:
    """The distance of each pair of images, float64 ``(N,)``."""
    values = []
    for start in range(0, len(first), BATCH):
        pair = (torch.from_numpy(side[start : start + BATCH]) for side in (first, second))
        values.append(distance(*pair).double().cpu())
    return torch.cat(values).numpy() if values else np.zeros(0)


def distance_named(net: str, weights: str | None, device: str) -> PerceptualDistance:
    """The distance by name, as of ``bench.features.pdist.perceptual_distance``, on a device."""
    from bench.features.pdist import perceptual_distance

    return perceptual_distance(net, weights).to(device)


def known_net(net: str, others: Sequence[str] = ()) -> str:
    """``net`` where it is a name that ``distance_named`` knows or one of ``others``, else BenchError."""
    known = (*others, "auto", OFFLINE, "alex", "vgg", "squeeze")
    if net not in known:
        raise BenchError(f"there is no distance '{net}'; {did_you_mean(net, known)}")
    return net


def _uncalibrated(found: list[Measurement]) -> list[Measurement]:
    return [m.replace(note="; ".join(filter(None, [UNCALIBRATED, m.note]))) for m in found]


class MSSSIMDiversity(Metric):
    """Mean pairwise MS-SSIM of samples, overall and within classes where samples have labels (lower is more diverse)."""

    paper = "Conditional Image Synthesis with Auxiliary Classifier GANs, Odena et al. 2017 (arXiv 1610.09585)"
    needs = frozenset({"images"})
    smallest: ClassVar[int] = WINDOW

    def __init__(self, pairs: int | None = None) -> None:
        """pairs: how many are looked at; default as many as can be formed."""
        self.pairs = None if pairs is None else whole_number(pairs, "pairs", 1)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        images = evidence.samples
        if min(images.shape[1:3]) < self.smallest:
            return []
        pairs = None if self.pairs is None else min(self.pairs, len(images) // 2)
        found = [ms_ssim_diversity(images, None, pairs, evidence.seed)]
        if evidence.sample_labels is not None:
            found.append(ms_ssim_diversity(images, evidence.sample_labels, pairs, evidence.seed))
        return found


class LPIPSDiversity(Metric):
    """Mean pairwise perceptual distance of samples (LPIPS, or the uncalibrated pdist_effnetlite0), overall and by class."""

    paper = "Toward Multimodal Image-to-Image Translation, Zhu et al. 2017 (arXiv 1711.11586)"
    needs = frozenset({"images"})

    def __init__(self, net: str = "auto", weights: str | None = None, pairs: int | None = None) -> None:
        """net: LPIPS's ``alex``, ``vgg``, ``squeeze``; ``effnetlite0`` (uncalibrated, offline); ``auto``: LPIPS where its trunk's weights
        are in torch hub's cache or named, else ``effnetlite0``; names of measurements say which. weights: file of LPIPS's trunk.
        pairs: how many are looked at; default as many as can be formed."""
        self.net, self.weights, self.pairs = known_net(net), weights, pairs

    def measure(self, evidence: Evidence) -> list[Measurement]:
        distance = distance_named(self.net, self.weights, evidence.device)
        images, labels = evidence.samples, evidence.sample_labels
        pairs = None if self.pairs is None else min(self.pairs, len(images) // 2)
        found = [lpips_diversity(images, distance, pairs, evidence.seed)]
        if labels is not None:
            found += lpips_diversity_by_class(images, labels, distance, evidence.seed)
        return found if distance.calibrated else _uncalibrated(found)


class PerceptualReconstruction(Metric):
    """Mean perceptual distance of test images to their reconstructions (LPIPS, or the uncalibrated pdist_effnetlite0)."""

    paper = (
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, Zhang et al. 2018 (arXiv 1801.03924)"
    )
    needs = frozenset({"images", "reconstructs"})

    def __init__(self, net: str = "auto", weights: str | None = None, images: int | None = None) -> None:
        """net, weights: as of ``lpips-diversity``. images: how many of the test set are looked at; default all."""
        self.net, self.weights, self.images = known_net(net), weights, images

    def measure(self, evidence: Evidence) -> list[Measurement]:
        from bench.metrics.reconstruction import reconstruct

        data = evidence.data
        distance = distance_named(self.net, self.weights, evidence.device)
        originals = sampled(data.test, len(data.test) if self.images is None else self.images, evidence.seed)
        rebuilt = reconstruct(evidence.model, originals, data.space, evidence.seed, evidence.device)
        found = [reconstruction_distance(originals, rebuilt, distance)]
        return found if distance.calibrated else _uncalibrated(found)
