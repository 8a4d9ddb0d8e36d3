"""The collapse verdict asks about diversity: corrupted digits have all of it, dropped and repeated ones have not."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.features.classifier import DatasetClassifier
from bench.features.extract import extract
from bench.metrics.collapse import View, collapse_verdict, near_share
from bench.sanity.corruptions import blurred, compressed, noisy
from bench.space import ImageSpace

N = 300
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def halves() -> tuple[Digits, Digits]:
    """scikit-learn's digits at 16 x 16: for the classifier and for the sets."""
    source = load_digits()
    images = np.repeat(np.repeat((source.images[..., None] * 15.9).astype(np.uint8), 2, axis=1), 2, axis=2)
    labels = source.target.astype(np.int64)
    chosen = np.arange(len(labels)) % 2 == 0
    return (images[chosen], labels[chosen]), (images[~chosen], labels[~chosen])


@pytest.fixture(scope="module")
def features(halves: tuple[Digits, Digits], tmp_path_factory: pytest.TempPathFactory) -> Callable:
    (images, labels), (test, test_labels) = halves
    data = Data("digits", ImageSpace(1, 16, 16), images, test, labels, test_labels, tuple("0123456789"))
    network = DatasetClassifier(data, epochs=4, folder=tmp_path_factory.mktemp("classifiers"))
    return lambda x: extract(x, network)["features"]


@pytest.fixture
def verdict(halves: tuple[Digits, Digits], features: Callable) -> Callable:
    """The verdict on ``samples(images, labels, rng)`` against other digits, with fresh draws."""

    def judge(samples: Callable) -> float:
        rng = np.random.default_rng(np.random.randint(2**31))
        _, (images, labels) = halves
        order = rng.permutation(len(labels))
        real, rest = order[:N], order[N:]
        fake = samples(images[rest], labels[rest], rng)
        train, flat = images[rest], lambda x: x.reshape(len(x), -1).astype(np.float32)
        pixels = View(flat(images[real]), flat(fake), flat(train))
        return collapse_verdict(features(images[real]), features(fake), features(train), pixels=pixels)

    return judge


@pytest.mark.parametrize("strength", [0.05, 0.2, 0.4])
def test_noise_is_no_collapse(verdict: Callable, strength: float) -> None:
    assert verdict(lambda x, y, rng: noisy(x[:N], strength, rng)) == 0


@pytest.mark.parametrize("strength", [0.025, 0.05, 0.1])
def test_blur_is_no_collapse(verdict: Callable, strength: float) -> None:
    assert verdict(lambda x, y, rng: blurred(x[:N], strength)) == 0


def test_clean_compressed_and_shifted_digits_are_no_collapse(verdict: Callable) -> None:
    assert verdict(lambda x, y, rng: x[:N]) == 0
    assert verdict(lambda x, y, rng: compressed(x[:N], 90)) == 0
    assert verdict(lambda x, y, rng: np.roll(x[:N], 2, axis=1)) == 0


def test_diverse_garbage_is_no_collapse(verdict: Callable, halves: tuple[Digits, Digits]) -> None:
    (train, _), _ = halves
    flat = train.reshape(len(train), -1).astype(float)

    def gaussian(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.multivariate_normal(flat.mean(0), np.cov(flat.T), size=N, method="eigh")
        return drawn.clip(0, 255).round().astype(np.uint8).reshape(N, *x.shape[1:])

    assert verdict(gaussian) == 0
    assert verdict(lambda x, y, rng: rng.integers(0, 256, (N, *x.shape[1:]), dtype=np.uint8)) == 0


def test_dropped_classes_are_a_collapse_and_the_note_says_so(verdict: Callable) -> None:
    found = verdict(lambda x, y, rng: x[np.isin(y, rng.permutation(10)[:5])][:N])
    assert found == 1
    assert "missing mass" in found.note
    assert verdict(lambda x, y, rng: x[np.isin(y, rng.permutation(10)[:3])][:N]) == 1


def test_few_images_over_and_over_are_a_collapse(verdict: Callable) -> None:
    found = verdict(lambda x, y, rng: noisy(x[rng.integers(0, 5, N)], 0.02, rng))
    assert found == 1
    assert "repetitions +" in found.note


def test_one_picture_is_a_collapse_wherever_it_lies(verdict: Callable) -> None:
    mean = verdict(lambda x, y, rng: np.repeat(x.mean(0, keepdims=True).astype(np.uint8), N, axis=0))
    assert mean == 1
    assert "repetitions +100%" in mean.note
    assert verdict(lambda x, y, rng: noisy(np.repeat(255 - x[:1], N, axis=0), 0.02, rng)) == 1


def test_near_share() -> None:
    real, fake, train = np.random.default_rng(np.random.randint(2**31)).normal(size=(3, 500, 4))
    assert near_share(real, fake, train) > 0.9
    assert near_share(real, fake + 9, train) == 0
    assert near_share(real, np.concatenate([fake[:250], fake[250:] + 9]), train) == pytest.approx(0.475, abs=0.04)
