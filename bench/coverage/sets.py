"""Simulated coverage of the 95 % intervals of the per-example, diversity, memorisation, mode and latent metrics.

Each function draws many fresh data sets from a distribution whose true value is known, and counts how often the
interval held it. A row: ``{"metric", "distribution", "n", "coverage", "offered", "repetitions"}``, where ``coverage`` is the
share among the repetitions in which an interval was offered, and ``offered`` is that share of all repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import stats

from bench.metrics.bins import divergence, jensen_shannon, kullback_leibler
from bench.metrics.clipped import calibrated, clipped_coverage, clipped_density, uncalibrated_coverage
from bench.metrics.fld import fld
from bench.metrics.intervals import area_under_roc, difference_of_proportions, mean_of, proportion_of, ratio_of_means
from bench.metrics.latent import trimmed_mean
from bench.metrics.memorisation import data_copying, nearest_train_ratio
from bench.metrics.sliced import sliced_wasserstein
from bench.metrics.vendi import ORDERS, diversity_of_order, vendi_scores
from bench.record import Measurement

Row = dict[str, Any]


def simulate(
    metric: str, distribution: str, n: int, truth: float, draw: Callable[[], Measurement], repetitions: int
) -> Row:
    """One row: how often the interval of ``draw()`` held ``truth``."""
    held = offered = 0
    for _ in range(repetitions):
        measured = draw()
        if measured.low is None or measured.high is None:
            continue
        offered += 1
        held += measured.low <= truth <= measured.high
    return {
        "metric": metric,
        "distribution": distribution,
        "n": n,
        "coverage": held / offered if offered else None,
        "offered": offered / repetitions,
        "repetitions": repetitions,
    }


def means(repetitions: int = 2000, seed: int = 0) -> Iterator[Row]:
    """Means of per-example values: bits/dim, MSE, PSNR, SSIM, LPIPS and all others that are averages."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[Callable[[int], np.ndarray], float]] = {
        "normal": (lambda n: rng.normal(size=n), 0.0),
        "gamma, shape 0.5": (lambda n: rng.gamma(0.5, size=n), 0.5),
        "exponential": (lambda n: rng.exponential(size=n), 1.0),
        "lognormal, sigma 1": (lambda n: rng.lognormal(0, 1, n), float(np.exp(0.5))),
        "lognormal, sigma 1.5": (lambda n: rng.lognormal(0, 1.5, n), float(np.exp(1.125))),
        "Student t, 3 degrees": (lambda n: rng.standard_t(3, n), 0.0),
    }
    for shape, (values, truth) in shapes.items():
        for n in (30, 100, 1000):

            def draw(values: Callable[[int], np.ndarray] = values, n: int = n) -> Measurement:
                return mean_of(values(n), name="mean")

            yield simulate("mean per example", shape, n, truth, draw, repetitions)


def ratios(repetitions: int = 2000, seed: int = 0) -> Iterator[Row]:
    """Ratios of paired means: compression against PNG."""
    rng = np.random.default_rng(seed)
    for n in (30, 100, 1000):

        def draw(n: int = n) -> Measurement:
            bottom = rng.gamma(4, 1, n)
            return ratio_of_means(2 * bottom + rng.exponential(1, n), bottom, name="ratio")

        yield simulate("ratio of means", "gamma, shape 4", n, 2.25, draw, repetitions)


def areas_under_roc(repetitions: int = 2000, seed: int = 0) -> Iterator[Row]:
    """Anomaly AUROC with normal scores shifted by ``shift`` standard deviations, and with lognormal ones."""
    rng = np.random.default_rng(seed)
    for n in (30, 100, 1000):
        for shift in (0.0, 1.0, 2.0):
            truth = float(stats.norm.cdf(shift / np.sqrt(2)))

            def draw(n: int = n, shift: float = shift) -> Measurement:
                return area_under_roc(rng.normal(size=n), shift + rng.normal(size=n), name="auroc")

            yield simulate("anomaly_auroc", f"normal, shift {shift:g}", n, truth, draw, repetitions)


def vendi(repetitions: int = 400, seed: int = 0) -> Iterator[Row]:
    """Vendi scores of features with a power-law spectrum; the truth is the score of a million samples' second moment."""
    rng = np.random.default_rng(seed)
    for d, n, mean, tail in ((8, 100, 0, "exponential"), (32, 300, 2, "Student t, 3"), (112, 500, 5, "exponential")):
        scale = np.arange(1, d + 1) ** -0.6
        shift = np.eye(d)[0] * mean

        def features(n: int, d: int = d, scale: np.ndarray = scale, shift: np.ndarray = shift, tail: str = tail):  # type: ignore[no-untyped-def]
            noise = rng.exponential(size=(n, d)) - 1 if tail == "exponential" else rng.standard_t(3, (n, d))
            return noise * scale + shift

        moment = np.zeros((d, d))
        for _ in range(40):
            x = features(25000)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            moment += x.T @ x / 1e6
        spectrum = torch.linalg.eigvalsh(torch.from_numpy(moment))
        scores = [vendi_scores(features(n)) for _ in range(repetitions)]
        for q in ORDERS:
            drawn = iter([score[q] for score in scores])
            truth = diversity_of_order(spectrum, q)
            yield simulate(f"vendi, q = {q:g}", f"{tail}, d = {d}", n, truth, drawn.__next__, repetitions)


def proportions(repetitions: int = 4000, seed: int = 0) -> Iterator[Row]:
    """Shares (AuthPct, modes, classification accuracy) and differences of two shares (near-copies)."""
    rng = np.random.default_rng(seed)
    for p in (0.02, 0.3, 0.9):
        for n in (100, 1000):

            def draw(p: float = p, n: int = n) -> Measurement:
                return proportion_of(rng.random(n) < p, name="share")

            yield simulate("share", f"Bernoulli, p = {p}", n, p, draw, repetitions)
    for p, q in ((0.01, 0.01), (0.2, 0.01), (0.5, 0.4)):
        for n in (300, 1000):

            def draw_two(p: float = p, q: float = q, n: int = n) -> Measurement:
                return difference_of_proportions(rng.random(n) < p, rng.random(n // 2) < q, name="near_copies")

            yield simulate("near_copies", f"Bernoulli, p = {p} and {q}", n, p - q, draw_two, repetitions)


def distances_to_train(repetitions: int = 300, seed: int = 0) -> Iterator[Row]:
    """Nearest-train ratio and C_T for a fixed training set; the truth is that of very many samples, or the mean of C_T."""
    rng = np.random.default_rng(seed)
    spread = np.array([2.0, 1.0, 1.0, 0.5, 0.5])
    train = rng.exponential(size=(400, 5)) * spread

    def held_out(n: int) -> np.ndarray:
        return rng.exponential(size=(n, 5)) * spread

    def copies(n: int) -> np.ndarray:
        return train[rng.integers(0, 400, n)] + 0.15 * rng.normal(size=(n, 5))

    for model, draw_fake in (("held-out data", held_out), ("noisy copies", copies)):
        truth = float(nearest_train_ratio(train, held_out(100_000), draw_fake(100_000)))
        for n in (100, 400):

            def ratio(n: int = n, draw_fake: Callable[[int], np.ndarray] = draw_fake) -> Measurement:
                return nearest_train_ratio(train, held_out(n), draw_fake(n))

            yield simulate("nearest_train_ratio", model, n, truth, ratio, repetitions)
            statistics = [data_copying(train, held_out(n), draw_fake(n)) for _ in range(repetitions)]
            mean = float(np.mean([float(each) for each in statistics]))
            yield simulate("data_copying_ct", model, n, mean, iter(statistics).__next__, repetitions)


def divergences(repetitions: int = 300, seed: int = 0) -> Iterator[Row]:
    """Reverse KL of mode histograms to uniform, and Jensen-Shannon divergence of two histograms."""
    rng = np.random.default_rng(seed)
    for bins, n in ((8, 200), (25, 500), (25, 2500), (100, 1000), (1000, 10_000)):
        p, q = rng.dirichlet(np.full(bins, 3.0)), rng.dirichlet(np.full(bins, 3.0))
        uniform = np.full(bins, 1 / bins)

        def to_uniform(shares: np.ndarray, uniform: np.ndarray = uniform) -> float:
            return kullback_leibler(shares, uniform)

        def draw_kl(p: np.ndarray = p, n: int = n, statistic: Callable[..., float] = to_uniform) -> Measurement:
            return divergence(statistic, [rng.multinomial(n, p)], name="mode_kl")

        def draw_jsd(p: np.ndarray = p, q: np.ndarray = q, n: int = n) -> Measurement:
            return divergence(jensen_shannon, [rng.multinomial(n, p), rng.multinomial(n, q)], name="jsd_bins")

        times = repetitions if bins < 1000 else max(1, repetitions // 10)
        yield simulate("mode_kl", f"{bins} modes, Dirichlet(3)", n, to_uniform(p), draw_kl, times)
        yield simulate("jsd_bins", f"{bins} bins, Dirichlet(3)", n, jensen_shannon(p, q), draw_jsd, times)


def sliced(repetitions: int = 200, seed: int = 0) -> Iterator[Row]:
    """Sliced Wasserstein distance of shifted and of equal distributions: the truth is |shift| / sqrt(d)."""
    rng = np.random.default_rng(seed)
    for shape in ("normal", "exponential"):
        for d, n, shift in ((8, 200, 1.0), (8, 1000, 0.3), (32, 300, 1.0), (8, 300, 0.0)):

            def draw(shape: str = shape, d: int = d, n: int = n, shift: float = shift) -> Measurement:
                x, y = (getattr(rng, shape)(size=(size, d)) for size in (n, n // 2))
                y[:, 0] += shift
                return sliced_wasserstein(x, y, directions=100, seed=int(rng.integers(2**31)))

            label = f"{shape}, d = {d}, shift {shift:g}"
            yield simulate("sliced_w2", label, n, shift / np.sqrt(d), draw, repetitions)


def clipped(repetitions: int = 200, seed: int = 0) -> Iterator[Row]:
    """Clipped Density and Coverage for a fixed reference. The truth is the density of very many samples, and the calibrated
    mean of the uncalibrated coverage over other draws than those counted. At the ceiling (truth 1) both nearly always cover."""
    rng = np.random.default_rng(seed)
    for shape in ("normal", "exponential"):
        real = getattr(rng, shape)(size=(300, 6))
        for scale in (1.0, 1.5, 0.6):

            def fake(n: int, shape: str = shape, scale: float = scale) -> np.ndarray:
                return scale * getattr(rng, shape)(size=(n, 6))

            truth = float(clipped_density(real, fake(50_000)))
            for n in (100, 300):
                label = f"{shape}, scale {scale:g}"

                def draw(n: int = n, fake: Callable[[int], np.ndarray] = fake, real: np.ndarray = real) -> Measurement:
                    return clipped_density(real, fake(n))

                yield simulate("clipped_density", label, n, truth, draw, repetitions)
                expected = float(np.mean([uncalibrated_coverage(real, fake(n)) for _ in range(repetitions)]))
                share = calibrated(expected, len(real), n, 5)

                def draw_coverage(
                    n: int = n, fake: Callable[[int], np.ndarray] = fake, real: np.ndarray = real
                ) -> Measurement:
                    return clipped_coverage(real, fake(n))

                yield simulate("clipped_coverage", label, n, share, draw_coverage, repetitions)


def path_lengths(repetitions: int = 2000, seed: int = 0) -> Iterator[Row]:
    """Trimmed means, as of path lengths; the truth is that of very many values."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, Callable[[int], np.ndarray]] = {
        "chi-square, 2 degrees": lambda n: rng.chisquare(2, n),
        "lognormal, sigma 1": lambda n: rng.lognormal(0, 1, n),
        "lognormal, sigma 1.5": lambda n: rng.lognormal(0, 1.5, n),
    }
    for shape, values in shapes.items():
        truth = float(trimmed_mean(values(2_000_000), 0.01, name="ppl"))
        for n in (100, 1000):

            def draw(values: Callable[[int], np.ndarray] = values, n: int = n) -> Measurement:
                return trimmed_mean(values(n), 0.01, name="ppl")

            yield simulate("perceptual path length", shape, n, truth, draw, repetitions)


def feature_likelihood(repetitions: int = 100, seed: int = 0) -> Iterator[Row]:
    """FLD for a fixed training set; the truth is its mean over draws of samples and test examples."""
    rng = np.random.default_rng(seed)

    def data(n: int) -> np.ndarray:
        return rng.gamma(2, 1, (n, 6)) * np.arange(1, 7) ** -0.5

    train = data(400)
    for scale in (1.0, 1.2):
        drawn = [fld(train, data(150), scale * data(150)) for _ in range(repetitions)]
        mean = float(np.mean([float(each) for each in drawn]))
        yield simulate("fld", f"gamma, scale {scale:g}", 150, mean, iter(drawn).__next__, repetitions)


ALL = (
    means, ratios, areas_under_roc, vendi, proportions, distances_to_train, divergences, sliced, clipped, path_lengths,
    feature_likelihood,
)  # fmt: skip
"""Every simulation of this module; each takes ``repetitions`` and ``seed`` and yields rows."""
