"""Likelihood: bits per dimension of held-out data, its kind always in its name, and what it means as compression.

An exact likelihood, an upper bound (ELBO) and a stochastic estimate are different quantities: a bound cannot be ranked
against an exact value. So they are never the same measurement: ``bits_per_dim_exact``, ``bits_per_dim_upper_bound``,
``bits_per_dim_estimate``.
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, number_vector, whole_number
from bench.metrics.intervals import mean_of, ratio_of_means
from bench.metrics.model_input import model_batches
from bench.metrics.order import shuffled
from bench.record import Measurement
from bench.space import ImageSpace, Space, TokenSpace

LikelihoodKind = Literal["exact", "upper_bound", "estimate"]

PNG_CONTAINER_BYTES = 57
"""Signature 8 + IHDR 25 + framing of one IDAT 12 + IEND 12: what every PNG file holds besides its pixels."""


def bits_per_dim(nats: Features, dimensions: int, kind: LikelihoodKind) -> Measurement:
    """Mean negative log-likelihood in bits per dimension, ``nats / (dimensions ln 2)``; lower is better.

    nats: ``(n,)`` negative log-likelihood of each test example, of the *discrete* data (for 8-bit images a uniform guess
    scores 8, and no value is below 0; one that is gets a note). dimensions: values per example (C x H x W). The interval is over test examples, one trained model.

    Raises BenchError for another kind, and for nats that are no vector of numbers.
    """
    _check_kind(kind)
    bits = number_vector(nats, "nats") / (whole_number(dimensions, "dimensions", 1) * math.log(2))
    measured = mean_of(bits, name=f"bits_per_dim_{kind}", unit="bits/dim")
    if measured < 0:
        return measured.replace(note="below 0: the model reports a density where 8-bit data have a probability")
    return measured


def bits_per_token(nats: Features, length: int, kind: LikelihoodKind) -> Measurement:
    """Mean negative log-likelihood in bits per token of sequences of ``length`` tokens; nats: ``(n,)`` per sequence."""
    _check_kind(kind)
    bits = number_vector(nats, "nats") / (whole_number(length, "length", 1) * math.log(2))
    return mean_of(bits, name=f"bits_per_token_{kind}", unit="bits/token")


def nll(nats: Features, kind: LikelihoodKind) -> Measurement:
    """Mean negative log-density of continuous data in nats per example (may be negative); lower is better."""
    _check_kind(kind)
    return mean_of(number_vector(nats, "nats"), name=f"nll_{kind}", unit="nats")


def kl_from_truth(nats: Features, true_log_prob: Features, kind: LikelihoodKind) -> Measurement:
    """KL(truth || model) in nats, ``E[log p(x) - log q(x)]`` over test examples, where the data's density is known.

    nats: ``(n,)`` ``-log q(x)``; true_log_prob: ``(n,)`` ``log p(x)``, of the same examples. 0 is perfect; an estimate may
    fall slightly below. With kind "upper_bound" it bounds the divergence from above.
    """
    _check_kind(kind)
    ours = number_vector(nats, "nats")
    true = number_vector(true_log_prob, "true_log_prob", len(ours))
    return mean_of(ours + true, name=f"kl_from_truth_{kind}", unit="nats")


def compression_vs_png(nats: Features, png_bits: Features, kind: LikelihoodKind) -> Measurement:
    """PNG's mean bits over the model's mean code length: 2 means half the size of PNG. Higher is better.

    nats: ``(n,)`` of each image; png_bits: ``(n,)`` from ``png_pixel_bits``. A code of length ``-log2 q(x)`` exists for an
    exact likelihood (arithmetic coding) and for an ELBO (bits back).

    Raises BenchError for another kind, for vectors of two lengths, and for nats that are no code lengths: below 0, or all 0.
    """
    _check_kind(kind)
    bits = number_vector(nats, "nats") / math.log(2)
    of_png = number_vector(png_bits, "png_bits", len(bits))
    if not _are_code_lengths(bits):
        raise BenchError(
            f"{int((bits < 0).sum())} of {len(bits)} nats are below 0, and {int((bits > 0).sum())} above: they are no lengths of a "
            "code; give -log of probabilities of the 8-bit images"
        )
    return ratio_of_means(of_png, bits, name=f"compression_vs_png_{kind}", unit="x", direction="higher")


def _are_code_lengths(nats: np.ndarray) -> bool:
    """Whether codes of images may be so long: none below 0, and not all 0. What is NaN is for the mean to say."""
    return not (nats < 0).any() and bool(nats.any())


def png_pixel_bits(images: np.ndarray) -> np.ndarray:
    """Bits that PNG (zlib level 9) spends on the pixels of each uint8 image ``(N, H, W, C)``, its container not counted -> ``(N,)``.

    Raises BenchError for anything but uint8 images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise BenchError(f"PNG sizes need uint8 images (N, H, W, 1 or 3), not {images.dtype} {images.shape}")
    sizes = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG", optimize=True)
        sizes.append(8 * (len(file.getvalue()) - PNG_CONTAINER_BYTES))
    return np.array(sizes, dtype=np.float64)


def nats_per_example(
    model: Any, array: np.ndarray, space: Space, seed: int = 0, device: str = "cpu", batch_size: int = 256
) -> np.ndarray:
    """``model.nll`` over ``array``, in batches -> float64 ``(N,)``.

    Seeded, so that a bound or an estimate is reproducible; torch's random state is left as it was. Gradients are off
    but not forbidden (a flow's divergence may need them).
    """
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed)
        nats = [model.nll(x).double().cpu() for x in model_batches(array, space, device, batch_size)]
    values = torch.cat(nats).numpy()
    if values.shape != (len(array),):
        raise BenchError(f"{type(model).__name__}.nll must return one value per example, not {values.shape}")
    return values


def _check_kind(kind: str) -> None:
    if kind not in get_args(LikelihoodKind):
        raise BenchError(f"nll_kind is '{kind}'; a model must say exact, upper_bound or estimate")


def _against_png(nats: np.ndarray, images: np.ndarray, kind: LikelihoodKind) -> Measurement:
    """``compression_vs_png``; NaN, with a note, where a model says what is no length of a code."""
    if _are_code_lengths(nats):
        return compression_vs_png(nats, png_pixel_bits(images), kind)
    note = "not estimated: some nats are below 0, or all are 0, which no code can be"
    return Measurement(
        math.nan, name=f"compression_vs_png_{kind}", n=len(nats), unit="x", direction="higher", note=note
    )


class Likelihood(Metric):
    """Bits per dimension (or nats, for continuous data) of the test set, by kind; for images also against PNG."""

    paper = "A note on the evaluation of generative models, Theis, van den Oord, Bethge 2016 (arXiv 1511.01844)"
    needs = frozenset({"likelihood"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        model, data = evidence.model, evidence.data
        test = shuffled(data.test)  # an estimate's draws go to examples, not to places
        kind: LikelihoodKind = model.nll_kind
        nats = nats_per_example(model, test, data.space, evidence.seed, evidence.device)
        if isinstance(data.space, ImageSpace):
            return [bits_per_dim(nats, data.space.dimensions, kind), _against_png(nats, test, kind)]
        if isinstance(data.space, TokenSpace):
            return [bits_per_token(nats, data.space.length, kind)]
        found = [nll(nats, kind)]
        log_prob = getattr(data.truth, "log_prob", None)
        if log_prob is not None:
            found.append(kl_from_truth(nats, np.asarray(log_prob(test), dtype=np.float64), kind))
        return found
