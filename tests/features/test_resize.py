"""Resizing: against clean-fid, PIL, torch and torch-fidelity, golden values, and what must not matter."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import BenchError
from bench.features.resize import MODES, resize, resize_matrix

GREY_LEVELS = 1e-3  # the largest difference from another implementation that is allowed, in grey levels of 255


def ramp(side: int) -> np.ndarray:
    return (np.arange(side * side * 3) * 7 % 256).astype(np.uint8).reshape(side, side, 3)


def noise(height: int, width: int, count: int = 1, channels: int = 3) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def nhwc(images: np.ndarray, size: int | tuple[int, int], mode: str) -> np.ndarray:
    return resize(torch.from_numpy(images), size, mode).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (299, 299), (64, 48), (400, 256), (8, 8), (1, 5), (301, 700)])
@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
def test_agrees_with_clean_fid(mode: str, height: int, width: int) -> None:
    build_resizer = pytest.importorskip("cleanfid.resize").build_resizer
    images = noise(height, width, count=2)
    theirs = np.stack([build_resizer(mode)(image) for image in images])
    assert np.abs(nhwc(images, 299, mode) - theirs).max() < GREY_LEVELS


@pytest.mark.parametrize(("height", "width"), [(32, 32), (299, 299), (64, 48), (400, 256), (1, 5)])
def test_legacy_tensorflow_agrees_with_torch_fidelity(height: int, width: int) -> None:
    peer = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = noise(height, width, count=2)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    theirs = peer.interpolate_bilinear_2d_like_tensorflow1x(planes, size=(299, 299), align_corners=False)
    ours = resize(torch.from_numpy(images), 299, "legacy_tensorflow")
    assert (ours - theirs).abs().max() < GREY_LEVELS


@pytest.mark.parametrize("size", [(128, 128), (17, 40), (224, 96)])
def test_clean_agrees_with_pil_at_any_size_and_for_grey_images(size: tuple[int, int]) -> None:
    image = noise(50, 70, channels=1)
    ours = nhwc(image, size, "clean")[0, :, :, 0]
    theirs = Image.fromarray(image[0, :, :, 0].astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.abs(ours - np.asarray(theirs).clip(0, 255)).max() < GREY_LEVELS


def test_golden_values_of_the_clean_protocol() -> None:
    image = nhwc(ramp(32)[None], 299, "clean")[0].astype(np.float64)
    assert image.mean() == pytest.approx(127.49476711, abs=1e-4)
    assert image.std() == pytest.approx(60.9823760821, abs=1e-4)
    assert image[150, 150] == pytest.approx((97.186592, 109.158035, 116.158035), abs=GREY_LEVELS)


def test_golden_values_of_clean_against_legacy() -> None:
    clean, legacy = (nhwc(ramp(512)[None], 299, mode)[0].astype(np.float64) for mode in ("clean", "legacy_pytorch"))
    assert clean.std() == pytest.approx(66.2897395, abs=1e-4)
    assert legacy.std() == pytest.approx(68.0386742, abs=1e-4)
    assert np.abs(clean - legacy).max() == pytest.approx(52.49, abs=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_constants_survive_and_the_same_size_is_the_identity(mode: str) -> None:
    assert np.abs(resize_matrix(mode, 37, 91).sum(axis=1) - 1).max() < 1e-12
    images = noise(40, 40)
    assert np.abs(nhwc(images, 40, mode) - images).max() < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_an_image_does_not_depend_on_its_batch(mode: str) -> None:
    images = noise(96, 80, count=11)
    whole = nhwc(images, 299, mode)
    alone = np.concatenate([nhwc(image[None], 299, mode) for image in images])
    assert np.abs(whole - alone).max() < GREY_LEVELS / 10


def test_clean_is_clipped_to_the_grey_scale() -> None:
    checker = np.indices((24, 24)).sum(0) // 4 % 2 * np.uint8(255)
    image = nhwc(np.repeat(checker[None, :, :, None], 3, 3).astype(np.uint8), 299, "clean")
    assert image.min() == 0
    assert image.max() == 255


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(BenchError, match="did you mean 'clean'"):
        resize(torch.zeros(1, 8, 8, 3), 16, "cleen")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="add the batch dimension"):
        resize(torch.zeros(8, 8, 3), 16)
