"""The collapse verdict asks about diversity: corrupted digits have all of it, dropped and repeated ones have not."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.features.classifier import DatasetClassifier
from bench.features.extract import extract
from bench.metrics.collapse import collapse_verdict, missing_mass, outside_share, repetitions, variance_ratio
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
        return collapse_verdict(features(images[real]), features(fake), images[real], fake)

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
    assert "data are left out" in found.note
    assert verdict(lambda x, y, rng: x[np.isin(y, rng.permutation(10)[:7])][:N]) == 1


def test_few_images_over_and_over_are_a_collapse(verdict: Callable) -> None:
    found = verdict(lambda x, y, rng: noisy(x[rng.integers(0, 5, N)], 0.02, rng))
    assert found == 1
    assert "repeat" in found.note


def test_one_picture_is_a_collapse_wherever_it_lies(verdict: Callable) -> None:
    mean = verdict(lambda x, y, rng: np.repeat(x.mean(0, keepdims=True).astype(np.uint8), N, axis=0))
    assert mean == 1
    assert "hardly vary" in mean.note
    assert verdict(lambda x, y, rng: noisy(np.repeat(255 - x[:1], N, axis=0), 0.02, rng)) == 1


def test_missing_mass_of_a_known_share() -> None:
    rng = np.random.default_rng(np.random.randint(2**31))
    centres = 50 * np.eye(10)
    real = centres[np.arange(1000) % 10] + rng.normal(size=(1000, 10))
    fake = centres[np.arange(1000) % 6] + rng.normal(size=(1000, 10))
    same = centres[np.arange(1000) % 10] + rng.normal(size=(1000, 10))
    assert float(missing_mass(real, fake)) == pytest.approx(0.4, abs=0.04)
    assert missing_mass(real, same) < 0.05
    assert missing_mass(real, same + 200) == 1
    assert outside_share(real, same) < 0.1
    assert outside_share(real, same + 200) == pytest.approx(0.9)


def test_repetitions_and_variance_do_not_ask_where_samples_lie() -> None:
    rng = np.random.default_rng(np.random.randint(2**31))
    real, fake = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    few = fake[rng.integers(0, 20, 400)]
    assert abs(repetitions(real, fake / 10)) < 0.05  # crowded as a whole, none repeated
    assert repetitions(real, few + 30).low > 0.9  # type: ignore[operator]
    assert float(variance_ratio(real, fake / 10 + 30)) == pytest.approx(0.01, rel=0.3)
    assert collapse_verdict(real, fake + 30) == 0
    assert collapse_verdict(real, few + 30) == 1
    assert collapse_verdict(real, fake / 10 + 30) == 1


def test_an_exact_copy_of_the_data_leaves_nothing_out() -> None:
    real = np.random.randn(200, 5)
    assert missing_mass(real, real.copy()) < 0.05
    assert collapse_verdict(real, real.copy()) == 0
