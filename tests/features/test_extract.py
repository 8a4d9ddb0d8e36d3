"""One pass: order, batch size, copies, progress."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.effnetlite0 import EfficientNetLite0Extractor
from bench.features.extract import extract, unique_images


class Brightness(Extractor):
    """Mean and spread of the pixels; counts the images it is shown."""

    name = "brightness"
    version = "brightness 1"

    def __init__(self) -> None:
        self.layers = {"mean": 1, "both": 2}
        self.seen = 0

    def to(self, device: torch.device) -> "Brightness":
        return self

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        self.seen += len(images)
        pixels = images.flatten(1).float()
        mean = pixels.mean(1, keepdim=True)
        return {"mean": mean, "both": torch.cat([mean, pixels.std(1, keepdim=True)], 1)}


def noise(count: int, side: int = 16, channels: int = 3) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_rows_belong_to_their_images() -> None:
    images = noise(23)
    features = extract(images, Brightness(), batch_size=5)
    assert features["mean"].dtype == np.float32
    np.testing.assert_allclose(features["mean"][:, 0], images.reshape(23, -1).mean(1), rtol=1e-6)
    np.testing.assert_allclose(features["both"][:, 1], images.reshape(23, -1).std(1, ddof=1), rtol=1e-5)


def test_copies_are_computed_once_and_returned_everywhere() -> None:
    images = noise(7)[np.random.default_rng().integers(0, 7, 50)]
    extractor = Brightness()
    features = extract(images, extractor, batch_size=4)
    assert extractor.seen == len({image.tobytes() for image in images})
    np.testing.assert_allclose(features["mean"][:, 0], images.reshape(50, -1).mean(1), rtol=1e-6)


def test_unique_images_rebuild_the_set() -> None:
    images = noise(9, side=4, channels=1)[np.random.default_rng().integers(0, 9, 40)]
    first, rows = unique_images(images)
    np.testing.assert_array_equal(images[first][rows], images)
    assert (np.diff(first) > 0).all()
    assert len(first) == len(np.unique(images.reshape(40, -1), axis=0))


def test_a_real_network_does_not_depend_on_the_batch_size() -> None:
    images = noise(9, side=32)
    whole = extract(images, EfficientNetLite0Extractor(), batch_size=64)
    for batch_size in (1, 2, 5):
        parts = extract(images, EfficientNetLite0Extractor(), batch_size=batch_size)
        for layer, values in whole.items():
            assert np.linalg.norm(parts[layer] - values) < 1e-5 * np.linalg.norm(values), (layer, batch_size)


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    extract(noise(10), Brightness(), batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(BenchError, match="uint8 images"):
        extract(noise(2).astype(np.float32), Brightness())
    with pytest.raises(BenchError, match="no images"):
        extract(noise(2)[:0], Brightness())
    with pytest.raises(BenchError, match="batch_size"):
        extract(noise(2), Brightness(), batch_size=0)


def test_an_extractor_that_breaks_its_promise_is_named() -> None:
    extractor = Brightness()
    extractor.layers = {"mean": 1, "both": 3}
    with pytest.raises(BenchError, match="promises layer 'both' of width 3"):
        extract(noise(2), extractor)
