"""Intervals of the set-against-set metrics: Fréchet and kernel distances, PRDC, and the Inception Score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bench.coverage.row import Row, generators, row_of
from bench.metrics.frechet import FrechetTo, frechet_distances
from bench.metrics.frechet_infinity import fid_infinity
from bench.metrics.inception import inception_score
from bench.metrics.kernel import cmmd, kernel_distance
from bench.metrics.precision_recall import prdc
from bench.record import Measurement

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""``draw(rng, n)`` -> ``(n, d)`` float64."""

FRECHET_SIZES = (
    (1, 500, 500), (3, 100, 100), (8, 30, 60), (8, 300, 300), (64, 77, 154), (64, 200, 200), (64, 1000, 600), (112, 1000, 1000),
)  # fmt: skip
OTHER_SIZES = (
    (2, 200, 200), (2, 500, 500), (4, 50, 50), (16, 200, 200), (16, 500, 300), (64, 50, 50), (64, 200, 200), (64, 1000, 1000),
    (256, 200, 200), (256, 250, 250),
)  # fmt: skip
"""(d, real samples, fake samples) of the simulations, from the smallest at which an interval is offered."""


class Population(NamedTuple):
    """A distribution that can be drawn from, with its mean ``(d,)`` and covariance ``(d, d)``."""

    draw: Draw
    mean: np.ndarray
    covariance: np.ndarray


class Pair(NamedTuple):
    """Two populations to compare."""

    name: str
    real: Population
    fake: Population

    @property
    def distance(self) -> float:
        """Their Fréchet distance."""
        return FrechetTo(self.real.mean, self.real.covariance)(self.fake.mean, self.fake.covariance)


NOISES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "skewed": lambda rng, n, d: rng.standard_gamma(1.0, (n, d)) - 1,
    "heavy": lambda rng, n, d: rng.standard_normal((n, d)) * np.exp(0.35 * rng.standard_normal((n, 1)) - 0.35**2),
}
"""Independent coordinates of mean 0 and variance 1: Gaussian; exponential; Gaussian with a common random length (kurtosis 4.9)."""


def linear_pair(noise: str, d: int, equal: bool) -> Pair:
    """Mixed coordinates with a power-law spectrum i^-1.2, like a network's features; the fakes turned, rescaled and shifted."""
    rng = np.random.default_rng(d)
    scale = np.arange(1, d + 1) ** -0.6
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    turned = np.linalg.qr(basis + 0.15 * rng.standard_normal((d, d)) / np.sqrt(d))[0]
    turned *= np.sign((turned * basis).sum(0))
    other = turned * scale * np.exp(0.2 * rng.standard_normal(d))
    shift = 0.2 * scale * rng.standard_normal(d)
    real = _linear(noise, basis * scale, np.zeros(d))
    fake = real if equal else _linear(noise, other, shift)
    return Pair(f"{noise}, {'equal' if equal else 'different'}", real, fake)


SEPARATE = {
    "2": (2, 500, 3.0), "4": (4, 400, 3.0), "16": (16, 500, 4.5), "16-far": (16, 500, 5.5), "64": (64, 500, 5.0), "112-spectrum": (112, 400, 0.8),
}  # fmt: skip
"""Name -> (d, samples of each, shift) of sets that hardly overlap."""


def separate_pair(name: str) -> Pair:
    """Gaussians of unit variance, or of a power-law spectrum, the fakes shifted so far that few of the sets' balls reach each other."""
    d, _, shift = SEPARATE[name]
    spectrum = np.arange(1, d + 1) ** -0.6 if name.endswith("spectrum") else np.ones(d)
    towards = np.random.default_rng(d).standard_normal(d) if name.endswith("spectrum") else np.eye(d)[0]
    real, fake = (_linear("normal", np.diag(spectrum), mean) for mean in (np.zeros(d), shift * spectrum * towards))
    return Pair(f"separate, {name.replace('-', ', ')}", real, fake)


def _linear(noise: str, mixing: np.ndarray, mean: np.ndarray) -> Population:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return mean + NOISES[noise](rng, n, len(mean)) @ mixing.T

    return Population(draw, mean, mixing @ mixing.T)


def empirical(features: np.ndarray) -> Population:
    """The population that has just these features ``(N, d)``, each equally likely: real features as a known truth."""
    values = features.astype(np.float64)
    mean = values.mean(0)
    return Population(
        lambda rng, n: values[rng.integers(0, len(values), n)], mean, (values - mean).T @ (values - mean) / len(values)
    )


def frechet_rows(pair: Pair, n: int, m: int, repetitions: int, seed: int) -> list[Row]:
    """``fd`` (for its mean at n), ``fd_corrected`` (for the distance) and ``fd_infinity`` (given each drawn real set)."""
    raws, corrected, extrapolated, given = [], [], [], []
    for rng in generators(repetitions, seed):
        real, fake = pair.real.draw(rng, n), pair.fake.draw(rng, m)
        raw, free = frechet_distances(real, fake)
        raws.append(raw)
        corrected.append(free)
        extrapolated.append(fid_infinity(real, fake, seed=int(rng.integers(2**31))))
        given.append(FrechetTo.features(real)(pair.fake.mean, pair.fake.covariance))
    where = {"d": len(pair.real.mean), "n": n, "m": m}
    return [
        row_of("fd", pair.name, raws, np.mean(raws), target="mean at n", **where),
        row_of("fd_corrected", pair.name, corrected, pair.distance, target="distance", **where),
        row_of("fd_infinity", pair.name, extrapolated, given, target="distance to the real set", **where),
    ]


def other_rows(pair: Pair, n: int, m: int, repetitions: int, seed: int) -> list[Row]:
    """``kid``, ``cmmd_unbiased`` (both unbiased: their mean is the distance), precision, recall, density and coverage."""
    found: list[list[Measurement]] = []
    for rng in generators(repetitions, seed):
        real, fake = pair.real.draw(rng, n), pair.fake.draw(rng, m)
        found.append([kernel_distance(real, fake), cmmd(real, fake, unbiased=True), *prdc(real, fake)])
    where = {"d": len(pair.real.mean), "n": n, "m": m}
    targets = ("distance", "distance", *("mean at n",) * 4)
    return [
        row_of(values[0].name, pair.name, values, np.mean(values), target=target, **where)
        for values, target in zip(zip(*found, strict=True), targets, strict=True)
    ]


def inception_rows(n: int, splits: int, repetitions: int, seed: int) -> Iterator[Row]:
    """``is`` of classifiers that are sure of most samples, sure of few, and of a few classes only."""
    for name, sharpness, favour in (("sure", 8.0, 0.0), ("unsure", 1.0, 0.0), ("few classes", 4.0, 2.0)):
        values = []
        for rng in generators(repetitions, seed):
            logits = sharpness * rng.standard_gamma(0.5, (n, 20)) - favour * np.arange(20)
            values.append(inception_score(logits, splits))
        label = f"{name}, {splits} split{'s' if splits > 1 else ''}"
        yield row_of("is", label, values, np.mean(values), target="mean at n", d=20, n=n)
