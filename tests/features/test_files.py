"""Image files of mixed sizes and modes to features; unreadable ones are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.errors import BenchError
from bench.features import files as module
from bench.features.extract import extract
from bench.features.files import decode, extract_files, image_files
from bench.features.module import ModuleExtractor


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, shape, dtype=np.uint8)


def extractor() -> ModuleExtractor:
    torch.manual_seed(0)
    return ModuleExtractor(nn.Sequential(nn.Flatten(), nn.Linear(48, 6)), 4, name="linear")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty images of three sizes, in two levels of folders."""
    for i in range(30):
        path = tmp_path / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise((8, 12, 20)[i % 3], 10, 3)).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("waiting", [1 << 28, 500])
def test_features_are_those_of_each_image_in_order(folder: Path, waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAITING_BYTES", waiting)
    paths = image_files(folder)
    assert len(paths) == 30
    assert paths == sorted(paths)
    seen: list[tuple[int, int]] = []
    result = extract_files(paths, extractor(), batch_size=4, progress=lambda done, total: seen.append((done, total)))
    expected = np.concatenate([extract(np.asarray(Image.open(path))[None], extractor())["features"] for path in paths])
    np.testing.assert_allclose(result.features["features"], expected, rtol=1e-4, atol=1e-5)
    assert result.paths == paths
    assert seen[-1] == (30, 30)


def test_unreadable_files_are_named_and_counted(folder: Path) -> None:
    cut = folder / "a" / "00.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (folder / "b" / "01.png").write_text("not an image")
    paths = image_files(folder)
    result = extract_files(paths, extractor())
    assert {path.name for path in result.unreadable} == {"00.png", "01.png"}
    assert len(result.paths) == len(result.features["features"]) == 28
    with pytest.raises(BenchError, match=r"cannot read the image .*00\.png"):
        extract_files(paths, extractor(), strict=True)
    with pytest.raises(BenchError, match="none of 2 image files"):
        extract_files(list(result.unreadable), extractor())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_is_read_as_pil_reads_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.fromarray(noise(6, 7, 3)).convert(mode).save(path)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def test_sixteen_bits_are_scaled_rather_than_clipped(tmp_path: Path) -> None:
    grey = np.random.default_rng().integers(0, 65536, (6, 7)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png")[:, :, 1], np.rint(grey / 257).astype(np.uint8))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "big.png")
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    result = extract_files(image_files(tmp_path), extractor())
    assert [path.name for path in result.unreadable] == ["big.png"]


def test_no_images_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no images below"):
        image_files(tmp_path)
    with pytest.raises(BenchError, match="is not a folder"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(BenchError, match="got no files"):
        extract_files([], extractor())
