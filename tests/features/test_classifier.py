"""The data set's own classifier: learns real digits, reproducibly, and is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.errors import BenchError
from bench.features.classifier import DatasetClassifier
from bench.space import ImageSpace, VectorSpace


def digits(count: int = 1797) -> Data:
    """scikit-learn's 8 x 8 digits, every fifth for testing."""
    source = load_digits()
    images = (source.images[:count, :, :, None] * 15.9).astype(np.uint8)
    labels = source.target[:count].astype(np.int64)
    test = np.arange(count) % 5 == 0
    return Data(
        "digits", ImageSpace(1, 8, 8), images[~test], images[test], labels[~test], labels[test], tuple("0123456789")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> DatasetClassifier:
    return DatasetClassifier(digits(), folder=folder)


def test_recognises_held_out_digits(classifier: DatasetClassifier) -> None:
    assert classifier.accuracy > 0.95
    assert classifier.accuracy.n == len(digits().test)
    assert classifier.accuracy.low < classifier.accuracy < classifier.accuracy.high  # type: ignore[operator]
    logits = classifier(torch.from_numpy(digits().test))["logits"]
    assert float((logits.argmax(1).numpy() == digits().test_labels).mean()) == classifier.accuracy


def test_images_that_are_not_square_are_trained_on_as_they_are_read(tmp_path: Path) -> None:
    """Digits squeezed to 8 x 4 are stretched back to 8 x 8 in training as in extraction."""
    square = digits()
    train, test = (images.reshape(-1, 8, 4, 2, 1).mean(3).astype(np.uint8) for images in (square.train, square.test))
    data = Data("squeezed", ImageSpace(1, 8, 4), train, test, square.train_labels, square.test_labels, square.classes)
    classifier = DatasetClassifier(data, folder=tmp_path)
    assert "side=8 " in classifier.version
    assert classifier.accuracy > 0.9


def test_layers_and_version(classifier: DatasetClassifier) -> None:
    assert classifier.layers == {"features": 128, "logits": 10}
    assert classifier(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))["features"].shape == (2, 128)


def test_the_same_seed_gives_the_same_weights_on_any_number_of_threads(tmp_path: Path) -> None:
    data = digits(300)
    before = torch.get_rng_state()
    first = DatasetClassifier(data, epochs=1, folder=tmp_path / "a")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = DatasetClassifier(data, epochs=1, folder=tmp_path / "b")
    finally:
        torch.set_num_threads(threads)
    assert first.version == second.version
    assert DatasetClassifier(data, seed=1, epochs=1, folder=tmp_path / "a").version != first.version
    assert torch.equal(torch.get_rng_state(), before), "training moved the caller's random state"


def test_trained_weights_are_kept_and_damaged_ones_replaced(classifier: DatasetClassifier, folder: Path) -> None:
    (kept,) = folder.glob("*.safetensors")
    written = kept.stat().st_mtime_ns
    assert DatasetClassifier(digits(), folder=folder).version == classifier.version
    assert kept.stat().st_mtime_ns == written
    data = digits(200)
    whole = DatasetClassifier(data, epochs=1, folder=folder / "other")
    (path,) = (folder / "other").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    assert DatasetClassifier(data, epochs=1, folder=folder / "other").version == whole.version
    assert path.stat().st_size > 1000


def test_data_without_labels_or_images_is_one_sentence(tmp_path: Path) -> None:
    data = digits(100)
    with pytest.raises(BenchError, match="needs labels"):
        DatasetClassifier(Data("plain", data.space, data.train, data.test), folder=tmp_path)
    with pytest.raises(BenchError, match="reads images"):
        DatasetClassifier(Data("ring", VectorSpace(2), np.zeros((4, 2)), np.zeros((4, 2))), folder=tmp_path)
