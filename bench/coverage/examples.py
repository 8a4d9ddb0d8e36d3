"""Intervals of what is made of one value an example: means, ratios, shares, areas under a curve, trimmed means."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from bench.coverage.row import Row, simulate
from bench.metrics.intervals import area_under_roc, difference_of_proportions, mean_of, proportion_of, ratio_of_means
from bench.metrics.latent import trimmed_mean
from bench.record import Measurement


def means(repetitions: int, seed: int) -> Iterator[Row]:
    """Means of per-example values: bits/dim, MSE, PSNR, SSIM, LPIPS and all others that are averages."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[Callable[[int], np.ndarray], float]] = {
        "normal": (lambda n: rng.normal(size=n), 0.0),
        "gamma, shape 0.5": (lambda n: rng.gamma(0.5, size=n), 0.5),
        "exponential": (lambda n: rng.exponential(size=n), 1.0),
        "lognormal, sigma 1": (lambda n: rng.lognormal(0, 1, n), float(np.exp(0.5))),
        "lognormal, sigma 1.5": (lambda n: rng.lognormal(0, 1.5, n), float(np.exp(1.125))),
        "Student t, 3 degrees": (lambda n: rng.standard_t(3, n), 0.0),
        "1 in 100, else 0": (lambda n: (rng.random(n) < 0.01).astype(float), 0.01),
        "1 in 10, else 0": (lambda n: (rng.random(n) < 0.1).astype(float), 0.1),
    }
    for shape, (values, truth) in shapes.items():
        for n in (30, 100, 1000):

            def draw(values: Callable[[int], np.ndarray] = values, n: int = n) -> Measurement:
                return mean_of(values(n), name="mean")

            yield simulate("mean per example", shape, n, truth, draw, repetitions)


def ratios(repetitions: int, seed: int) -> Iterator[Row]:
    """Ratios of paired means: compression against PNG."""
    rng = np.random.default_rng(seed)
    for n in (30, 100, 1000):

        def draw(n: int = n) -> Measurement:
            bottom = rng.gamma(4, 1, n)
            return ratio_of_means(2 * bottom + rng.exponential(1, n), bottom, name="ratio")

        yield simulate("ratio of means", "gamma, shape 4", n, 2.25, draw, repetitions)


def areas_under_roc(repetitions: int, seed: int) -> Iterator[Row]:
    """Anomaly AUROC with normal scores shifted by ``shift`` standard deviations, and with lognormal ones."""
    rng = np.random.default_rng(seed)
    for n in (20, 100, 1000):
        for shift in (0.0, 1.0, 2.0):
            truth = float(stats.norm.cdf(shift / np.sqrt(2)))

            def draw(n: int = n, shift: float = shift) -> Measurement:
                return area_under_roc(rng.normal(size=n), shift + rng.normal(size=n), name="auroc")

            yield simulate("anomaly_auroc", f"normal, shift {shift:g}", n, truth, draw, repetitions)


def proportions(repetitions: int, seed: int) -> Iterator[Row]:
    """Shares (AuthPct, modes, classification accuracy) and differences of two shares (near-copies)."""
    rng = np.random.default_rng(seed)
    for p in (0.02, 0.3, 0.9):
        for n in (10, 100, 1000):

            def draw(p: float = p, n: int = n) -> Measurement:
                return proportion_of(rng.random(n) < p, name="share")

            yield simulate("share", f"Bernoulli, p = {p}", n, p, draw, repetitions)
    for p, q in ((0.01, 0.01), (0.2, 0.01), (0.5, 0.4)):
        for n in (30, 300, 1000):

            def draw_two(p: float = p, q: float = q, n: int = n) -> Measurement:
                return difference_of_proportions(rng.random(n) < p, rng.random(n // 2) < q, name="near_copies")

            yield simulate("near_copies", f"Bernoulli, p = {p} and {q}", n, p - q, draw_two, repetitions)


def path_lengths(repetitions: int, seed: int) -> Iterator[Row]:
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
