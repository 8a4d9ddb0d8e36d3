"""Intervals of diversity, memorisation, mode and likelihood metrics, which look at whole sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from bench.coverage.row import Row, generators, row_of, simulate
from bench.metrics.bins import divergence, jensen_shannon, kullback_leibler
from bench.metrics.classes import intra_class_fd
from bench.metrics.clipped import calibrated, clipped_coverage, clipped_density, uncalibrated_coverage
from bench.metrics.collapse import repetitions as repetitions_of
from bench.metrics.feature_likelihood import fld, fld_gap
from bench.metrics.memorisation import data_copying, nearest_train_ratio
from bench.metrics.realism import median_realism
from bench.metrics.reconstruction import reconstruction_fd
from bench.metrics.sliced import sliced_wasserstein
from bench.metrics.vendi import ORDERS, diversity_of_order, vendi_scores
from bench.record import Measurement


def vendi(repetitions: int, seed: int) -> Iterator[Row]:
    """Vendi scores of features with a power-law spectrum; the truth is the score of a million samples' second moment."""
    rng = np.random.default_rng(seed)
    for d, n, mean, tail in (
        (8, 50, 0, "exponential"),
        (8, 100, 0, "exponential"),
        (32, 300, 2, "Student t, 3"),
        (112, 500, 5, "exponential"),
    ):
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


def distances_to_train(repetitions: int, seed: int) -> Iterator[Row]:
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
        for n in (30, 100, 400):

            def ratio(n: int = n, draw_fake: Callable[[int], np.ndarray] = draw_fake) -> Measurement:
                return nearest_train_ratio(train, held_out(n), draw_fake(n))

            yield simulate("nearest_train_ratio", model, n, truth, ratio, repetitions)
        for n, cells in ((25, 1), (100, 3), (400, 3)):
            statistics = [data_copying(train, held_out(n), draw_fake(n), cells) for _ in range(repetitions)]
            mean = np.mean([float(each) for each in statistics])
            label = f"{model}, {cells} cell{'s' if cells > 1 else ''}"
            yield row_of("data_copying_ct", label, statistics, mean, n=n, d=5, target="mean at n")


def divergences(repetitions: int, seed: int) -> Iterator[Row]:
    """Reverse KL of mode histograms to uniform, and Jensen-Shannon divergence of two histograms."""
    rng = np.random.default_rng(seed)
    for bins, n in ((8, 40), (8, 200), (25, 500), (25, 2500), (100, 500), (100, 1000), (1000, 10_000)):
        p, q = rng.dirichlet(np.full(bins, 3.0)), rng.dirichlet(np.full(bins, 3.0))
        uniform = np.full(bins, 1 / bins)

        def to_uniform(shares: np.ndarray, uniform: np.ndarray = uniform) -> float:
            return kullback_leibler(shares, uniform)

        def draw_kl(p: np.ndarray = p, n: int = n, statistic: Callable[..., float] = to_uniform) -> Measurement:
            return divergence(statistic, [rng.multinomial(n, p)], name="mode_kl")

        def draw_jsd(p: np.ndarray = p, q: np.ndarray = q, n: int = n) -> Measurement:
            return divergence(jensen_shannon, [rng.multinomial(n, p), rng.multinomial(n, q)], name="jsd_bins")

        yield simulate("mode_kl", f"{bins} modes, Dirichlet(3)", n, to_uniform(p), draw_kl, repetitions)
        yield simulate("jsd_bins", f"{bins} bins, Dirichlet(3)", n, jensen_shannon(p, q), draw_jsd, repetitions)


def sliced(repetitions: int, seed: int) -> Iterator[Row]:
    """Sliced Wasserstein distance of shifted and of equal distributions: the truth is |shift| / sqrt(d)."""
    rng = np.random.default_rng(seed)
    for shape in ("normal", "exponential"):
        for d, n, shift in ((8, 100, 1.0), (8, 200, 1.0), (8, 1000, 0.3), (32, 300, 1.0), (8, 300, 0.0)):

            def draw(shape: str = shape, d: int = d, n: int = n, shift: float = shift) -> Measurement:
                x, y = (getattr(rng, shape)(size=(size, d)) for size in (n, n // 2))
                y[:, 0] += shift
                return sliced_wasserstein(x, y, directions=100, seed=int(rng.integers(2**31)))

            label = f"{shape}, d = {d}, shift {shift:g}"
            yield simulate("sliced_w2", label, n, shift / np.sqrt(d), draw, repetitions)


def clipped(repetitions: int, seed: int) -> Iterator[Row]:
    """Clipped Density and Coverage for a fixed reference. The truth is the density of very many samples, and the calibrated
    mean of the uncalibrated coverage over other draws than those counted. At the ceiling (truth 1) both nearly always cover."""
    rng = np.random.default_rng(seed)
    for shape in ("normal", "exponential"):
        real = getattr(rng, shape)(size=(300, 6))
        for scale in (1.0, 1.5, 0.6):

            def fake(n: int, shape: str = shape, scale: float = scale) -> np.ndarray:
                return scale * getattr(rng, shape)(size=(n, 6))

            truth = float(clipped_density(real, fake(50_000)))
            for n in (30, 50, 100, 300):
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

    for share_of_good in (0.01, 0.05, 0.99):  # the rest of the samples lies far away
        real = rng.normal(size=(300, 6))

        def mixed(n: int, share: float = share_of_good) -> np.ndarray:
            return rng.normal(size=(n, 6)) + 50 * (rng.random((n, 1)) >= share)

        truth = float(clipped_density(real, mixed(50_000)))
        for n in (30, 100, 300):
            drawn = [mixed(n) for _ in range(repetitions)]
            label = f"normal, {share_of_good:.0%} near the data"
            yield row_of(
                "clipped_density", label, [clipped_density(real, x) for x in drawn], truth, target="true value", n=n
            )
            expected = float(np.mean([uncalibrated_coverage(real, mixed(n)) for _ in range(repetitions)]))
            share = calibrated(expected, len(real), n, 5)
            yield row_of(
                "clipped_coverage", label, [clipped_coverage(real, x) for x in drawn], share, target="true value", n=n
            )


def feature_likelihood(repetitions: int, seed: int) -> Iterator[Row]:
    """FLD and its gap for a fixed training set; the truth is the mean over draws of samples and test examples."""
    rng = np.random.default_rng(seed)

    def data(n: int) -> np.ndarray:
        return rng.gamma(2, 1, (n, 6)) * np.arange(1, 7) ** -0.5

    train = data(400)
    for scale in (1.0, 1.2):
        for n in (50, 150):
            drawn = [(data(n), scale * data(n)) for _ in range(repetitions)]
            for measure in (fld, fld_gap):
                values = [measure(train, test, fake) for test, fake in drawn]
                mean = np.mean([float(value) for value in values])
                label = f"gamma, scale {scale:g}"
                yield row_of(measure.__name__, label, values, mean, target="mean at n", n=n, d=6)


def realism(repetitions: int, seed: int) -> Iterator[Row]:
    """Realism of the median sample for a fixed reference; the truth is that of very many samples."""
    rng = np.random.default_rng(seed)
    for shape in ("normal", "exponential"):
        real = getattr(rng, shape)(size=(400, 6))
        for scale in (1.0, 1.5):

            def fake(n: int, shape: str = shape, scale: float = scale) -> np.ndarray:
                return scale * getattr(rng, shape)(size=(n, 6))

            truth = float(median_realism(real, fake(50_000)))
            for n in (30, 300):

                def draw(n: int = n, fake: Callable[[int], np.ndarray] = fake, real: np.ndarray = real) -> Measurement:
                    return median_realism(real, fake(n))

                yield simulate("realism", f"{shape}, scale {scale:g}", n, truth, draw, repetitions, d=6)


def repeated_samples(repetitions: int, seed: int) -> Iterator[Row]:
    """Share of samples that repeat another, where a known share of them comes in equal pairs."""
    for share in (0.1, 0.3, 0.6):
        for n in (50, 200, 1000):
            values = []
            for rng in generators(repetitions, seed):
                real, fake = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
                pairs = int(rng.binomial(n // 2, share))  # of the n/2 pairs, these are equal
                fake[1 : 2 * pairs : 2] = fake[0 : 2 * pairs : 2]
                values.append(repetitions_of(real, fake))
            yield row_of("repetitions", f"pairs, share {share}", values, share, target="true value", n=n, d=4)


def paired_and_by_class(repetitions: int, seed: int) -> Iterator[Row]:
    """Fréchet distance between examples and their own reconstructions, and the mean of such distances over classes."""
    for tail in ("normal", "exponential"):
        for d, n in ((8, 100), (8, 300), (32, 300), (64, 100)):
            rebuilt, by_class = [], []
            for rng in generators(repetitions, seed):
                x = (getattr(rng, tail)(size=(n, d))) * np.arange(1, d + 1) ** -0.6
                rebuilt.append(reconstruction_fd(x, 0.8 * x + 0.1 * rng.normal(size=x.shape) + 0.1, "rfd"))
                y = 1.2 * getattr(rng, tail)(size=(2 * n, d)) * np.arange(1, d + 1) ** -0.6
                real, labels = np.concatenate([x, x]), np.repeat([0, 1], n)
                real[n:] = getattr(rng, tail)(size=(n, d)) * np.arange(1, d + 1) ** -0.6 + 1
                y[n:] += 1
                by_class.append(intra_class_fd(real, labels, y, labels))
            for values in (rebuilt, by_class):
                mean = np.mean([float(value) for value in values])
                yield row_of(values[0].name, f"{tail}", values, mean, target="mean at n", n=n, d=d, m=n)
