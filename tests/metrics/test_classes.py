import numpy as np
import pytest
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.classes import (
    ConditionalQuality,
    classification_accuracy_score,
    condition_consistency,
    consistency_ceiling,
    intra_class_fd,
    train_classifier,
)
from bench.metrics.frechet import frechet_distance
from bench.space import ImageSpace


@pytest.fixture(scope="module")
def digits():
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    return (loaded.images[order] * 255 / 16).round().astype(np.uint8)[..., None], loaded.target[order]


@pytest.fixture(scope="module")
def classify(digits):
    images, labels = digits
    return train_classifier(images[:800], labels[:800], images[1400:], labels[1400:])


def test_intra_class_distance_is_the_mean_over_classes():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 200)
    real = rng.normal(size=(600, 4)) + labels[:, None]
    fake = 1.2 * rng.normal(size=(600, 4)) + labels[:, None]
    parts = [float(frechet_distance(real[labels == k], fake[labels == k])) for k in range(3)]
    measured = intra_class_fd(real, labels, fake, labels)
    assert float(measured) == pytest.approx(np.mean(parts), rel=1e-9)
    assert measured.low < float(measured) < measured.high


def test_intra_class_distance_sees_swapped_labels_that_the_whole_distance_cannot():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 200)
    real, fake = (rng.normal(size=(400, 3)) + 6 * labels[:, None] for _ in range(2))
    right, wrong = intra_class_fd(real, labels, fake, labels), intra_class_fd(real, labels, fake, 1 - labels)
    assert wrong > 50 * right
    assert frechet_distance(real, fake) < 1
    with pytest.raises(BenchError, match="class 1 has"):
        intra_class_fd(real, labels, fake, np.zeros(400, int))


def test_accuracy_score_falls_with_wrong_labels(digits):
    images, labels = digits
    fake, test = slice(0, 400), slice(1400, None)
    rng = np.random.default_rng(3)
    random = np.where(rng.random(400) < 0.9, rng.integers(0, 10, 400), labels[fake])
    right = classification_accuracy_score(images[fake], labels[fake], images[test], labels[test])
    wrong = classification_accuracy_score(images[fake], random, images[test], labels[test])
    assert right.low > 0.7
    assert wrong.high < right.low
    assert (right.n, right.direction) == (397, "higher")


def test_consistency_counts_obeyed_conditions(digits, classify):
    images, labels = digits
    samples, asked = images[800:1400], labels[800:1400]
    ceiling = consistency_ceiling(images[1400:], labels[1400:], classify)
    obeyed = condition_consistency(samples, asked, classify)
    half = condition_consistency(samples, np.where(np.arange(600) % 2, asked, (asked + 1) % 10), classify)
    assert ceiling.low > 0.85
    assert obeyed.high >= ceiling.low
    assert float(half) == pytest.approx(float(obeyed) / 2, abs=0.06)


def test_the_classifier_is_reproducible(digits):
    images, labels = digits
    first, second = (
        train_classifier(images[:200], labels[:200], images[1400:1450], labels[1400:1450])(images[:300])
        for _ in range(2)
    )
    assert np.array_equal(first, second)
    with pytest.raises(BenchError, match="two classes"):
        train_classifier(images[:50], np.zeros(50, int), images[:9], labels[:9])


def test_the_metric(digits):
    images, labels = digits
    data = Data("d", ImageSpace(1, 8, 8), images[:400], images[1400:], labels[:400], labels[1400:], tuple("0123456789"))
    projection = np.random.default_rng(4).normal(size=(64, 8))
    flat = {"real": images[1400:].reshape(-1, 64), "fake": images[800:1400].reshape(-1, 64)}
    evidence = Evidence(
        data=data,
        samples=images[800:1400],
        sample_labels=labels[800:1400],
        features=lambda split, layer: (flat[split] @ projection).astype(np.float32),
        extractor="net",
        layers={"mid": 8, "logits": 10},
    )
    found = {m.name: m for m in ConditionalQuality().measure(evidence)}
    assert list(found) == [
        "intra_fd_net_mid",
        "classification_accuracy_score",
        "condition_consistency",
        "condition_consistency_ceiling",
    ]
    assert all(m.low is not None for m in found.values())
