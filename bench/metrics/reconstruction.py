"""Reconstruction: how much of an example survives a model's bottleneck, and what that is good for.

Every comparison is between finished uint8 images (``reconstruct``'s output clamped and rounded), so that no model gains from
float outputs. Pixel values are scaled to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, checked_images, number_vector, real_number, real_numbers, to_numpy
from bench.metrics.intervals import area_under_roc, mean_of
from bench.metrics.layers import first_layer, named_with_layer
from bench.metrics.model_input import model_batches, to_images
from bench.metrics.order import shuffled
from bench.metrics.ssim import WINDOW, ssim
from bench.record import Measurement
from bench.space import ImageSpace, Space, TokenSpace

ROUNDING_ERROR = 1 / 12 / 255**2
"""Mean squared error of rounding to 8 bits; no PSNR counts less error than this, so that an exact copy has 58.9 dB."""


def squared_errors(originals: Features, reconstructions: Features) -> np.ndarray:
    """Mean squared error of each example -> float64 ``(N,)``; uint8 pixels are scaled to [0, 1], vectors taken as they are."""
    first, second = _alike(originals, reconstructions)
    difference = first.astype(np.float64) - second.astype(np.float64)
    if first.dtype == np.uint8:
        difference /= 255
    return (difference**2).reshape(len(first), -1).mean(1)


def mse(originals: Features, reconstructions: Features) -> Measurement:
    """Mean squared error per value over ``(N, ...)`` examples; lower is better.

    Raises BenchError for reconstructions of another shape or type.
    """
    return mean_of(squared_errors(originals, reconstructions), name="reconstruction_mse")


def psnr_per_image(originals: Features, reconstructions: Features) -> np.ndarray:
    """Peak signal-to-noise ratio of each uint8 image ``(N, H, W, C)`` in dB, ``-10 log10(mse)``, at most 58.92 (8-bit rounding) ->
    ``(N,)``. BenchError for anything else: the peak of other values is not known."""
    first, second = (checked_images(each, any_channels=True) for each in (originals, reconstructions))
    errors = squared_errors(first, second)
    return -10 * np.log10(np.maximum(errors, ROUNDING_ERROR))


def psnr(originals: Features, reconstructions: Features) -> Measurement:
    """Mean over uint8 images ``(N, H, W, C)`` of the peak signal-to-noise ratio in dB; higher is better.

    Raises BenchError for anything but uint8 images of one shape.
    """
    values = psnr_per_image(originals, reconstructions)
    return mean_of(values, name="reconstruction_psnr", unit="dB", direction="higher")


def mean_ssim(originals: Features, reconstructions: Features) -> Measurement:
    """Mean structural similarity of uint8 images ``(N, H, W, C)`` of at least 11 x 11 pixels; higher is better, 1 is equal.

    Raises BenchError for anything but uint8 images of one shape.
    """
    return mean_of(ssim(originals, reconstructions), name="reconstruction_ssim", direction="higher")


def denoising_gain(originals: Features, noisy: Features, denoised: Features, level: float) -> Measurement:
    """Decibels that reconstruction wins over doing nothing: mean PSNR(denoised) - PSNR(noisy). Below 0 it harms.

    All three uint8 ``(N, H, W, C)``; level: the noise's standard deviation as a share of the pixel range, for the name.

    Higher is better. Raises BenchError for anything but uint8 images of one shape.
    """
    real_number(level, "level")
    gain = psnr_per_image(originals, denoised) - psnr_per_image(originals, noisy)
    return mean_of(gain, name=f"denoising_gain_{level:g}", unit="dB", direction="higher")


def add_noise(images: np.ndarray, level: float, seed: int) -> np.ndarray:
    """uint8 images plus Gaussian noise of standard deviation ``255 level``, clamped and rounded: a noisy *image*."""
    noise = np.random.default_rng(seed).normal(0, 255 * level, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def anomaly_auroc(normal_errors: Features, anomalous_errors: Features) -> Measurement:
    """Area under the ROC curve of telling anomalies by a larger reconstruction error; 0.5 is chance, 1 perfect.

    normal_errors ``(m,)``, anomalous_errors ``(n,)``: error of each held-out example. DeLong's interval (logit scale).

    Raises BenchError for what is no vector of numbers, an empty one, or one that holds NaN, which is neither larger nor smaller.
    """
    normal = number_vector(normal_errors, "normal_errors")
    anomalous = number_vector(anomalous_errors, "anomalous_errors")
    if not (len(normal) and len(anomalous)):
        raise BenchError(
            f"{len(normal)} normal and {len(anomalous)} anomalous errors have no ROC curve; give some of each"
        )
    for errors, what in ((normal, "normal_errors"), (anomalous, "anomalous_errors")):
        if np.isnan(errors).any():
            number = int(np.isnan(errors).argmax())
            raise BenchError(f"{what} number {number} is NaN, which has no rank; look at that example's reconstruction")
    return area_under_roc(normal, anomalous, name="anomaly_auroc")


def reconstruction_fd(original_features: Features, rebuilt_features: Features, name: str) -> Measurement:
    """Fréchet distance between features ``(N, d)`` of test images and of *their own* reconstructions; lower is better.

    name: ``rfid`` only with the standard Inception-v3 pool features, else ``rfd_<extractor>_<layer>``.

    Raises BenchError for unusable features.
    """
    from bench.metrics.frechet_pairs import frechet_distance_of_pairs

    return frechet_distance_of_pairs(original_features, rebuilt_features).replace(name=name)


def reconstruct(
    model: Any, array: np.ndarray, space: Space, seed: int = 0, device: str = "cpu", batch_size: int = 256
) -> np.ndarray:
    """``model.reconstruct`` over ``array``, in batches, seeded -> the same shape; images uint8, vectors float32."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.inference_mode():
        torch.manual_seed(seed)
        batches = [model.reconstruct(x) for x in model_batches(array, space, device, batch_size)]
    whole = torch.cat([batch.cpu() for batch in batches])
    return to_images(whole) if isinstance(space, ImageSpace) else whole.float().numpy()


def _alike(originals: Features, reconstructions: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, of one shape and type and with at least one example."""
    first, second = to_numpy(originals), to_numpy(reconstructions)
    if first.shape != second.shape or first.dtype != second.dtype or first.size == 0:
        raise BenchError(
            f"reconstructions are {second.dtype} {second.shape}, their originals {first.dtype} {first.shape}: "
            "they must agree, (N, ...) with N > 0"
        )
    if first.dtype != np.uint8:
        real_numbers(first, "originals")
    return first, second


def _anomalies(known: np.ndarray, novel: np.ndarray) -> Measurement:
    """``anomaly_auroc``; NaN, with a note, where a model that diverged rebuilds some example as NaN."""
    bad, n = int(np.isnan(known).sum() + np.isnan(novel).sum()), len(known) + len(novel)
    if not bad:
        return anomaly_auroc(known, novel)
    note = f"not estimated: {bad} of {n} reconstruction errors are NaN"
    return Measurement(np.nan, name="anomaly_auroc", n=n, direction="higher", note=note)


class Reconstruction(Metric):
    """Reconstruction error of the test set (MSE, PSNR, SSIM, rFD), denoising gain, anomaly detection."""

    paper = "Image Quality Assessment: From Error Visibility to Structural Similarity, Wang et al. 2004"
    needs = frozenset({"reconstructs"})

    def __init__(self, layer: str | None = None, noise_levels: Sequence[float] = (0.1, 0.25, 0.5)) -> None:
        """layer: of rFD; default as of ``frechet``. noise_levels: standard deviations of the noise to remove, as shares of the pixel range, each a
        measurement (``denoising_gain_0.25``)."""
        self.layer, self.noise_levels = layer, tuple(map(float, noise_levels))
        if not all(0 < level < math.inf for level in self.noise_levels):
            raise BenchError(f"noise_levels must be above 0, not {list(noise_levels)}")

    def measure(self, evidence: Evidence) -> list[Measurement]:
        data = evidence.data
        if isinstance(data.space, TokenSpace):
            return []
        known, novel = map(shuffled, split_by_known_class(data.test, data.train_labels, data.test_labels))
        rebuilt = self._rebuild(evidence, known)
        found = [mse(known, rebuilt)]
        if len(novel):
            novel_errors = squared_errors(novel, self._rebuild(evidence, novel))
            found.append(_anomalies(squared_errors(known, rebuilt), novel_errors))
        if isinstance(data.space, ImageSpace):
            found += self._of_images(evidence, known, rebuilt)
        return found

    def _of_images(self, evidence: Evidence, images: np.ndarray, rebuilt: np.ndarray) -> list[Measurement]:
        found = [psnr(images, rebuilt)]
        if min(images.shape[1:3]) >= WINDOW:
            found.append(mean_ssim(images, rebuilt))
        for level in self.noise_levels:
            noisy = add_noise(images, level, evidence.seed)
            found.append(denoising_gain(images, noisy, self._rebuild(evidence, noisy), level))
        if evidence.extract is not None:
            layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
            standard = evidence.extractor == "inception" and layer == "pool"
            name = "rfid" if standard else named_with_layer("rfd", evidence, layer)
            original_features, rebuilt_features = (evidence.extract(z, layer) for z in (images, rebuilt))
            found.append(reconstruction_fd(original_features, rebuilt_features, name))
        return found

    def _rebuild(self, evidence: Evidence, array: np.ndarray) -> np.ndarray:
        return reconstruct(evidence.model, array, evidence.data.space, evidence.seed, evidence.device)


def split_by_known_class(
    test: np.ndarray, train_labels: np.ndarray | None, test_labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(test examples of classes seen in training, those of classes held out of it); without labels the second is empty."""
    if train_labels is None or test_labels is None:
        return test, test[:0]
    seen = np.isin(test_labels, np.unique(train_labels))
    return test[seen], test[~seen]
