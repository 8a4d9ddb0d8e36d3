"""Where metrics are tried: each stage turns (corruption, strength, repetition) into the evidence a metric looks at."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.sanity import corruptions as known
from bench.sanity.corruptions import Corruption
from bench.sanity.toys import PCAAutoencoder, PixelHistogram
from bench.scoring import FeatureBank
from bench.space import ImageSpace

SMALLEST_N = 60
OF_CLASSES = 3
"""Metrics per class get so many times ``n`` samples (drawn from those of all repetitions): a classifier must learn from them."""

OF_MODELS = frozenset({"reconstructs", "likelihood", "latent", "style", "codes"})


class Stage(abc.ABC):
    """name; corruptions it offers; ``repeats`` independent draws of everything."""

    name: str
    corruptions: tuple[Corruption, ...]
    repeats: int

    @abc.abstractmethod
    def takes(self, needs: frozenset[str], metric: str) -> Sequence[Corruption]:
        """The corruptions under which a metric of these needs is tried here."""

    def strengths(self, corruption: Corruption) -> Sequence[float]:
        return corruption.strengths

    @abc.abstractmethod
    def evidence(self, corruption: Corruption, strength: float, repeat: int) -> Evidence:
        """strength 0: the clean data."""


class Samples(Stage):
    """Held-out real images as samples of a perfect model, corrupted; reference, samples and training set share no image."""

    name = "samples"
    corruptions = (
        known.NOISE, known.BLUR, known.JPEG, known.MODE_DROPPING, known.DUPLICATION, known.MEMORISED, known.LABEL_NOISE,
    )  # fmt: skip

    def __init__(
        self, data: Data, bank_of: Callable[[Data, dict[str, Any]], FeatureBank], n: int, repeats: int, seed: int
    ) -> None:
        """bank_of: makes the feature bank of these splits. n: images of the reference and of the samples in each repetition."""
        images = np.concatenate([data.train, data.test])
        if not isinstance(data.space, ImageSpace):
            raise BenchError(f"bench sanity corrupts images, but data set '{data.name}' holds {data.space}")
        labels = None
        if data.train_labels is not None and data.test_labels is not None:
            labels = np.concatenate([data.train_labels, data.test_labels])
        order = np.random.default_rng(seed).permutation(len(images))
        if n < SMALLEST_N:
            raise BenchError(
                f"--n must be at least {SMALLEST_N}, got {n}: fewer images tell too little of a distribution"
            )
        self.n = min(n, len(images) // (2 * repeats + 2))
        if self.n < SMALLEST_N:
            raise BenchError(
                f"data set '{data.name}' has {len(images)} images: too few for {repeats} repetitions of {SMALLEST_N} each; "
                "take a larger data set or fewer repetitions"
            )
        self.repeats, self.seed = repeats, seed
        held = self.n * repeats
        self.parts = {"real": order[:held], "fake": order[held : 2 * held], "train": order[2 * held :][: 4 * self.n]}
        self.images, self.labels = images, labels
        self.modes = labels if labels is not None else _clusters(images, seed)
        train = self.parts["train"]
        self.data = Data(
            data.name,
            data.space,
            images[train],
            images[self.parts["real"][: self.n]],
            None if labels is None else labels[train],
            None if labels is None else labels[self.parts["real"][: self.n]],
            data.classes,
        )
        splits: dict[str, Any] = {name: images[rows] for name, rows in self.parts.items()}
        for corruption in self.corruptions[:3]:
            for strength in corruption.strengths:
                splits[_key(corruption, strength)] = functools.partial(
                    known.of_pixels, corruption, splits["fake"], strength, seed
                )
        self.splits = _Lazy(splits)
        self.bank = bank_of(self.data, self.splits)

    def takes(self, needs: frozenset[str], metric: str) -> Sequence[Corruption]:
        if needs & (OF_MODELS | {"truth"}) or metric == "stacked-modes":
            return ()
        if "sample_labels" in needs:
            return (known.LABEL_NOISE,) if self.labels is not None else ()
        return self.corruptions[:-1]

    def evidence(self, corruption: Corruption, strength: float, repeat: int) -> Evidence:
        rng = np.random.default_rng([self.seed, repeat])
        own = slice(repeat * self.n, (repeat + 1) * self.n)
        everyone = np.arange(len(self.parts["fake"]))
        source, rows, copied = "fake", everyone[own], np.zeros(0, np.int64)
        if strength > 0:
            if corruption in self.corruptions[:3]:
                source = _key(corruption, strength)
            elif corruption is known.MODE_DROPPING:
                rows = known.without_modes(self.modes[self.parts["fake"]], self.n, strength, rng)
            elif corruption is known.DUPLICATION:
                rows = rows[known.with_copies(self.n, strength, rng)]
            elif corruption is known.MEMORISED:
                copied = rng.permutation(len(self.parts["train"]))[: round(strength * self.n)]
                rows = rows[len(copied) :]
        if corruption is known.LABEL_NOISE:
            rows = rng.permutation(everyone)[: OF_CLASSES * self.n]
        labels = None if self.labels is None else self.labels[self.parts["fake"][rows]]
        if labels is not None and corruption is known.LABEL_NOISE:
            labels = known.wrong_labels(labels, strength, rng)

        def features(split: str, layer: str) -> np.ndarray:
            if split == "fake":
                kept = self.bank(source, layer)[rows]
                return np.concatenate([kept, self.bank("train", layer)[copied]])
            return self.bank(split, layer)[own] if split == "real" else self.bank("train", layer)

        real = self.parts["real"][own]
        pixels = self.splits[source][rows]
        data = Data(
            self.data.name, self.data.space, self.data.train, self.images[real], self.data.train_labels,
            None if self.labels is None else self.labels[real], self.data.classes,
        )  # fmt: skip
        return Evidence(
            data=data,
            samples=np.concatenate([pixels, self.images[self.parts["train"][copied]]]),
            features=features,
            extractor=self.bank.name,
            layers=self.bank.layers,
            sample_labels=labels if corruption is known.LABEL_NOISE else None,
            seed=repeat,
            extract=self.bank.of,
        )


class Models(Stage):
    """Models of which it is known what is wrong: a PCA autoencoder and a pixel histogram, fitted to the same data."""

    name = "models"
    corruptions = (
        known.REBUILT_NOISE, known.REBUILT_BLUR, known.CONTAMINATED, known.JUMPS, known.WINDING, known.FLATTENING,
    )  # fmt: skip

    def __init__(self, samples: Samples) -> None:
        self.samples, self.repeats = samples, samples.repeats

    def takes(self, needs: frozenset[str], metric: str) -> Sequence[Corruption]:
        if "reconstructs" in needs:
            tells_anomalies = metric == "reconstruction" and self.samples.labels is not None
            return (known.REBUILT_NOISE, known.REBUILT_BLUR, *([known.CONTAMINATED] if tells_anomalies else []))
        if "latent" in needs:
            return (known.JUMPS, known.WINDING)
        return (known.FLATTENING,) if "likelihood" in needs else ()

    def evidence(self, corruption: Corruption, strength: float, repeat: int) -> Evidence:
        clean = self.samples.evidence(known.NOISE, 0, repeat)
        data = self._with_novel_class(clean.data)
        if corruption is known.FLATTENING:
            clean.model = PixelHistogram(data.train, strength)
        elif corruption is known.JUMPS:
            clean.model = PCAAutoencoder(data.train, data.space, step=strength)
        elif corruption is known.WINDING:
            clean.model = PCAAutoencoder(data.train, data.space, winding=strength)
        elif corruption is known.CONTAMINATED:
            clean.model = PCAAutoencoder(self._contaminated(clean.data, data.train, strength), data.space)
        else:
            of = known.NOISE if corruption is known.REBUILT_NOISE else known.BLUR
            corrupt = functools.partial(known.of_pixels, of, strength=strength, seed=repeat) if strength else None
            clean.model = PCAAutoencoder(data.train, data.space, corrupt=corrupt)
        clean.data = data
        return clean

    def _contaminated(self, data: Data, known_classes: np.ndarray, strength: float) -> np.ndarray:
        """As many training images as ``known_classes`` has, a share ``strength`` of them of the class that is left out of those."""
        assert data.train_labels is not None
        novel = data.train[data.train_labels == data.train_labels.min()]
        rng = np.random.default_rng(self.samples.seed)
        few = round(strength * len(known_classes))
        kept = rng.permutation(len(known_classes))[: len(known_classes) - few]
        return np.concatenate([known_classes[kept], novel[rng.integers(0, len(novel), few)]])

    def _with_novel_class(self, data: Data) -> Data:
        """The training set without its first class, so that anomalies can be told; all of it where there are no labels."""
        if data.train_labels is None:
            return data
        kept = data.train_labels != data.train_labels.min()
        return Data(
            data.name, data.space, data.train[kept], data.test, data.train_labels[kept], data.test_labels, data.classes
        )


class Points(Stage):
    """Data whose truth is known: points of a Gaussian mixture, sprites with known factors, stacked digits."""

    corruptions = (known.SPREAD, known.MODE_DROPPING)

    def __init__(self, data: Data, modes: np.ndarray, metric: str, n: int, repeats: int, seed: int) -> None:
        """modes: ``(N,)`` of ``data.test``. metric: the one registered metric that this data is for."""
        self.name, self.data, self.modes, self.metric = data.name, data, modes, metric
        self.n, self.repeats, self.seed = n, repeats, seed

    def takes(self, needs: frozenset[str], metric: str) -> Sequence[Corruption]:
        if metric != self.metric:
            return ()
        return self.corruptions if hasattr(self.data.truth, "centers") else (known.MODE_DROPPING,)

    def strengths(self, corruption: Corruption) -> Sequence[float]:
        """Counting stacked digits trains a classifier each time: two strengths are enough there."""
        return corruption.strengths[1::2] if self.metric == "stacked-modes" else corruption.strengths

    def evidence(self, corruption: Corruption, strength: float, repeat: int) -> Evidence:
        rng = np.random.default_rng([self.seed, repeat])
        dropped = strength if corruption is known.MODE_DROPPING else 0.0
        samples = self.data.test[known.without_modes(self.modes, self.n, dropped, rng)]
        if corruption is known.SPREAD and strength > 0:
            samples = samples + strength * self.data.truth.std * rng.standard_normal(samples.shape)
        return Evidence(data=self.data, samples=samples, features=_no_features, seed=repeat)


class _Lazy(dict[str, Any]):
    """Splits of which some are made when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if callable(value):
            value = value()
            self[name] = value
        return value


def _key(corruption: Corruption, strength: float) -> str:
    return f"{corruption.name} {strength:g}"


def _clusters(images: np.ndarray, seed: int) -> np.ndarray:
    """Twenty k-means clusters of coarse pixels, where a data set has no classes."""
    step = max(1, images.shape[1] // 8)
    coarse = images[:, ::step, ::step].reshape(len(images), -1).astype(np.float64)
    return KMeans(20, n_init=1, random_state=seed).fit_predict(coarse)


def _no_features(split: str, layer: str) -> np.ndarray:
    raise BenchError("this stage has no features")
