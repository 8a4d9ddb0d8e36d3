"""Class-conditional models: is each class right, are the classes useful to learn from, and is the condition obeyed?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, class_vector, feature_pair, seed_number, vector
from bench.metrics.intervals import proportion_of
from bench.metrics.layers import first_layer, named_with_layer
from bench.metrics.order import order_of
from bench.record import Measurement
from bench.space import ImageSpace

Classify = Callable[[np.ndarray], np.ndarray]
"""uint8 ``(N, H, W, C)`` -> class of each, ``(N,)`` int64."""


def intra_class_fd(real: Features, real_labels: Features, fake: Features, fake_labels: Features) -> Measurement:
    """Mean over classes of the Fréchet distance between real and generated features of that class; lower is better.

    real ``(N, d)``, fake ``(M, d)``; labels ``(N,)`` and ``(M,)``. Every class of the reference needs at least 2 samples on both sides.
    The plain distance is biased upwards the more, the fewer samples a class has. Interval: the classes' intervals
    combined (root of the sum of squares), classes fixed; none where a class has none. "cGANs with Projection Discriminator",
    Miyato and Koyama 2018 (arXiv 1802.05637).

    Raises BenchError for unusable features or labels of another length.
    """
    from bench.metrics.frechet import frechet_distance

    real, fake = feature_pair(real, fake)
    real_labels = vector(real_labels, "labels of real features", len(real))
    fake_labels = vector(fake_labels, "labels of fake features", len(fake))
    parts = []
    for label in np.unique(real_labels):
        of_real, of_fake = real[real_labels == label], fake[fake_labels == label]
        if min(len(of_real), len(of_fake)) < 2:
            raise BenchError(
                f"intra-class distance: class {label} has {len(of_real)} real and {len(of_fake)} generated samples; "
                "generate at least 2 of each class"
            )
        parts.append(frechet_distance(of_real, of_fake))
    plain = Measurement(
        float(np.mean([float(part) for part in parts])), name="intra_fd", n=len(fake), direction="lower"
    )
    below = [float(part) - part.low for part in parts if part.low is not None]
    above = [part.high - float(part) for part in parts if part.high is not None]
    if len(below) < len(parts):
        return plain.replace(note="no interval: too few samples in some class")
    down, up = (float(np.linalg.norm(ends)) / len(parts) for ends in (below, above))
    return plain.replace(low=plain - down, high=plain + up, interval=parts[0].interval)


def classification_accuracy_score(
    fake: np.ndarray, fake_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int = 0
) -> Measurement:
    """CAS: accuracy on real test images of a small classifier trained on generated ones only; higher is better.

    uint8 ``(M, H, W, C)`` with labels ``(M,)`` (the conditions), and ``(n, H, W, C)`` with ``(n,)``. Read it beside the accuracy
    after training on real data. Wilson interval over test images, for this classifier: a new sample set or seed would give
    another classifier. "Classification Accuracy Score for Conditional Generative Models", Ravuri and Vinyals 2019
    (arXiv 1905.10887).

    Raises BenchError for labels of another length or of one class.
    """
    seed_number(seed)
    fake_labels = class_vector(fake_labels, "labels of generated images", len(fake))
    test_labels = class_vector(test_labels, "labels of test images", len(test))
    classify = train_classifier(fake, fake_labels, test, test_labels, seed)
    return proportion_of(classify(test) == test_labels, name="classification_accuracy_score")


def condition_consistency(images: np.ndarray, conditions: np.ndarray, classify: Classify) -> Measurement:
    """Share of samples that a classifier of real data sees as the class they were asked to be; higher is better.

    images uint8 ``(N, H, W, C)``; conditions ``(N,)``. Its ceiling is the classifier's accuracy on real data. Wilson interval.

    Raises BenchError for conditions of another length, and for a classifier that gives no class for each image.
    """
    hits = _classes(classify, images) == vector(conditions, "conditions", len(images))
    return proportion_of(hits, name="condition_consistency")


def consistency_ceiling(test: np.ndarray, test_labels: np.ndarray, classify: Classify) -> Measurement:
    """The classifier's accuracy on real test images: what ``condition_consistency`` of perfect samples would be."""
    hits = _classes(classify, test) == vector(test_labels, "labels of test images", len(test))
    return proportion_of(hits, name="condition_consistency_ceiling", direction="none")


def _classes(classify: Classify, images: np.ndarray) -> np.ndarray:
    return vector(classify(images), "what the classifier gave", len(images))


def train_classifier(
    images: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int = 0
) -> Classify:
    """A small convolutional network, trained on uint8 ``(N, H, W, C)`` and ``(N,)``; the same seed gives the same network."""
    from bench.features.classifier import DatasetClassifier
    from bench.features.extract import extract

    if len(np.unique(labels)) < 2:
        raise BenchError("a classifier needs samples of at least two classes")
    classes = tuple(str(k) for k in range(1 + int(max(labels.max(), test_labels.max()))))
    order = order_of(images, labels)  # which batches it learns from must not hang on how they came
    images, labels = images[order], labels[order]
    space = ImageSpace(images.shape[3], *images.shape[1:3])
    data = Data("samples", space, images, test, labels.astype(np.int64), test_labels.astype(np.int64), classes)
    with tempfile.TemporaryDirectory() as folder:
        network = DatasetClassifier(data, seed=seed, folder=folder)
    return lambda batch: extract(batch, network)["logits"].argmax(1)


class ConditionalQuality(Metric):
    """Class-conditional samples: intra-class Fréchet distance, classification accuracy score, condition consistency."""

    paper = "Classification Accuracy Score for Conditional Generative Models, Ravuri, Vinyals 2019 (arXiv 1905.10887)"
    needs = frozenset({"images", "labels", "sample_labels"})

    def __init__(self, layer: str | None = None) -> None:
        """layer: of the distance within classes; default as of ``frechet``."""
        self.layer = layer

    def measure(self, evidence: Evidence) -> list[Measurement]:
        data, conditions = evidence.data, evidence.sample_labels
        if conditions is None or data.train_labels is None or data.test_labels is None:
            return []
        found = []
        if evidence.layers:
            layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
            real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
            distance = intra_class_fd(real, data.test_labels, fake, conditions)
            found.append(distance.replace(name=named_with_layer(distance.name, evidence, layer)))
        of_real = train_classifier(data.train, data.train_labels, data.test, data.test_labels, evidence.seed)
        return [
            *found,
            classification_accuracy_score(evidence.samples, conditions, data.test, data.test_labels, evidence.seed),
            condition_consistency(evidence.samples, conditions, of_real),
            consistency_ceiling(data.test, data.test_labels, of_real),
        ]
