"""Images of mixed sizes and modes, from files or memory, to features in bounded memory; unreadable ones are named."""

import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.data import sources
from bench.data.sources import ArrayImages, EncodedImages
from bench.errors import BenchError
from bench.features import files as module
from bench.features.cache import FeatureCache
from bench.features.extract import extract
from bench.features.files import extract_files
from bench.features.module import ModuleExtractor
from bench.features.resize import resize


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, shape, dtype=np.uint8)


def extractor() -> ModuleExtractor:
    torch.manual_seed(0)
    return ModuleExtractor(nn.Sequential(nn.Flatten(), nn.Linear(48, 6)), 4, name="linear")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty images of three sizes, in two levels of folders."""
    for i in range(30):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noise((8, 12, 20)[i % 3], 10, 3)).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def one_by_one(paths: list[Path]) -> np.ndarray:
    """Each image as Pillow, clean-fid and pytorch-fid turn it into RGB."""
    return np.concatenate(
        [extract(np.asarray(Image.open(path).convert("RGB"))[None], extractor())["features"] for path in paths]
    )


@pytest.mark.parametrize("pieces", [(512, 1 << 27), (7, 1 << 27), (512, 900)])
def test_features_are_those_of_each_image_in_order(
    folder: Path, pieces: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", pieces[0])
    monkeypatch.setattr(module, "CHUNK_BYTES", pieces[1])
    monkeypatch.setattr(sources, "AHEAD_BYTES", 4000)
    seen: list[tuple[int, int]] = []
    result = extract_files(
        EncodedImages(folder), extractor(), batch_size=4, progress=lambda done, total: seen.append((done, total))
    )
    paths = sorted(folder.rglob("*.png"))
    np.testing.assert_allclose(result.features["features"], one_by_one(paths), rtol=1e-4, atol=1e-5)
    assert [folder / name for name in result.report.names] == paths
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)


def test_a_zip_and_chosen_images_give_the_same_rows(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    whole = extract_files(EncodedImages(folder), extractor())
    zipped = extract_files(EncodedImages(tmp_path / "images.zip"), extractor())
    assert zipped.report.digests == whole.report.digests
    np.testing.assert_allclose(zipped.features["features"], whole.features["features"], rtol=1e-5)
    some = extract_files(EncodedImages(folder), extractor(), chosen=[7, 2, 19])
    np.testing.assert_allclose(some.features["features"], whole.features["features"][[7, 2, 19]], rtol=1e-4, atol=1e-5)
    assert some.report.names == tuple(whole.report.names[i] for i in (7, 2, 19))


def test_a_cache_is_filled_in_pieces_and_shared_by_folders_and_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    pixels = noise(10, 6, 5, 3)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    cache = FeatureCache(tmp_path / "cache")
    first = extract_files(EncodedImages(tmp_path / "images"), extractor(), cache=cache).features["features"]
    assert len(list(cache.folder.iterdir())) == 3
    (second,) = extract_files(ArrayImages(pixels), extractor(), cache=cache).features.values()
    assert len(list(cache.folder.iterdir())) == 3
    assert np.array_equal(first, second)
    Image.fromarray(noise(6, 5, 3)).save(tmp_path / "images" / "9.png")
    changed = extract_files(EncodedImages(tmp_path / "images"), extractor(), cache=cache).features["features"]
    assert len(list(cache.folder.iterdir())) == 4
    assert np.array_equal(changed[:9], first[:9])
    assert not np.allclose(changed[9], first[9])


def test_what_was_done_before_an_interruption_is_not_done_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    cache = FeatureCache(tmp_path / "cache")

    def stop(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_files(EncodedImages(folder), extractor(), cache=cache, progress=stop)
    assert len(list(cache.folder.iterdir())) == 2 - 1  # the second piece was seen to its end, but not stored
    result = extract_files(EncodedImages(folder), extractor(), cache=cache)
    np.testing.assert_allclose(
        result.features["features"], extract_files(EncodedImages(folder), extractor()).features["features"], rtol=1e-6
    )


def test_unreadable_files_are_named_and_counted(folder: Path) -> None:
    cut = folder / "a" / "00.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (folder / "b" / "01.png").write_text("not an image")
    seen: list[int] = []
    result = extract_files(EncodedImages(folder), extractor(), progress=lambda done, total: seen.append(done))
    assert [name for name, _ in result.report.corrupt] == ["a/00.png", "b/01.png"]
    assert len(result.report.names) == len(result.features["features"]) == 28
    assert seen[-1] == 30
    with pytest.raises(BenchError, match=r"images/a/00\.png is not a readable image"):
        extract_files(EncodedImages(folder), extractor(), strict=True)
    with pytest.raises(BenchError, match="none of the 2 images"):
        extract_files(EncodedImages(folder), extractor(), chosen=[0, 15])


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "P with transparency", "P with several", "1", "CMYK"])
def test_every_mode_is_read_as_pil_reads_it(tmp_path: Path, mode: str) -> None:
    """Which is how clean-fid and pytorch-fid read it: transparency is dropped, and counted where there was any."""
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    options = {"with transparency": {"transparency": 3}, "with several": {"transparency": bytes(range(256))}}
    options = options.get(mode[2:], {})
    picture = Image.fromarray(noise(6, 7, 4 if mode in ("RGBA", "LA") else 3)).convert(mode.split()[0])
    picture.save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = extract_files(EncodedImages(tmp_path), extractor())
    np.testing.assert_allclose(result.features["features"], one_by_one([path]), rtol=1e-4, atol=1e-5)
    seen = {"with transparency": [3], "with several": list(range(255))}.get(mode[2:], [])
    assert result.report.transparent == (mode in ("RGBA", "LA") or bool(np.isin(np.asarray(picture), seen).any()))


@pytest.mark.peer
def test_pixels_are_those_of_clean_fid(tmp_path: Path) -> None:
    """Decoded and resized to what Inception sees, with transparency, a palette, grey and a JPEG among them."""
    utils = pytest.importorskip("cleanfid.utils")
    for i, (mode, suffix) in enumerate([("RGBA", "png"), ("LA", "png"), ("P", "png"), ("L", "png"), ("RGB", "jpg")]):
        Image.fromarray(noise(20, 31, 4)).convert(mode).save(tmp_path / f"{i}.{suffix}")
    theirs = utils.ResizeDataset([str(path) for path in sorted(tmp_path.iterdir())], mode="clean")
    images = list(EncodedImages(tmp_path).walk(transparency="dropped"))
    assert len(images) == len(theirs) == 5
    for image, their in zip(images, theirs, strict=True):
        ours = resize(torch.from_numpy(image.pixels)[None], 299)[0].expand(3, -1, -1)
        assert (ours - their).abs().max() < 1e-3


def test_an_alpha_channel_that_hides_nothing_is_not_counted(tmp_path: Path) -> None:
    opaque = np.dstack([noise(5, 5, 3), np.full((5, 5), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    assert extract_files(EncodedImages(tmp_path), None).report.transparent == 0


def test_sixteen_bits_are_scaled_rather_than_clipped(tmp_path: Path) -> None:
    grey = np.random.default_rng().integers(0, 65536, (6, 7)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    (found,) = EncodedImages(tmp_path).walk()
    np.testing.assert_array_equal(found.pixels[:, :, 0], np.rint(grey / 257).astype(np.uint8))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "big.png")
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    result = extract_files(EncodedImages(tmp_path), extractor())
    assert [name for name, _ in result.report.corrupt] == ["big.png"]


def held_at_most(folder: Path) -> int:
    """The most bytes of decoded images that wait, or are looked at, while somebody walks through ``folder`` with rests."""
    lock, held, most = threading.Lock(), 0, 0

    def seen(pixels: np.ndarray) -> np.ndarray:
        nonlocal held, most
        with lock:
            held += pixels.nbytes
            most = max(most, held)
        return pixels

    for image in EncodedImages(folder).walk(then=seen):
        time.sleep(0.002)  # the threads get ahead
        assert isinstance(image, sources.Decoded)
        with lock:
            held -= image.pixels.nbytes
    return most


def test_few_bytes_wait_decoded_however_many_images_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where large images come after small ones, of which hundreds may wait."""
    for i in range(60):
        Image.fromarray(noise(4, 4, 3)).save(tmp_path / f"a{i:02}.png")
    for i in range(20):
        Image.fromarray(noise(100, 100, 3)).save(tmp_path / f"b{i:02}.png")
    large = 100 * 100 * 3
    assert held_at_most(tmp_path) > 10 * large, "without a limit in reach, threads get far ahead"
    monkeypatch.setattr(sources, "AHEAD_BYTES", 3 * large)
    assert held_at_most(tmp_path) <= 5 * large, "three that wait, one looked at, and the next, which always finds room"


def test_a_machine_without_memory_is_no_corrupt_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "a.png")

    def full(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sources, "decode", full)
    with pytest.raises(MemoryError):
        list(EncodedImages(tmp_path).walk())


def test_one_huge_image_does_not_hold_up_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is asked for what each image takes, not for the largest there was."""
    Image.fromarray(noise(300, 300, 3)).save(tmp_path / "a.png")
    for i in range(60):
        Image.fromarray(noise(10, 10, 3)).save(tmp_path / f"b{i:02}.png")
    monkeypatch.setattr(sources, "AHEAD_BYTES", 40 * 10 * 10 * 3)
    decoded: list[int] = []
    real = sources.decode
    monkeypatch.setattr(sources, "decode", lambda *given: (decoded.append(1), real(*given))[1])
    walked = EncodedImages(tmp_path).walk()
    for _ in range(2):
        next(walked)
    deadline = time.monotonic() + 30
    while len(decoded) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    walked.close()
    assert len(decoded) >= 20


def test_images_that_grow_on_the_way_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays, too: a resolution asked for may be larger than theirs."""
    np.save(tmp_path / "small.npy", noise(300, 4, 4, 3))
    monkeypatch.setattr(sources, "AHEAD_BYTES", 3 * 64 * 64 * 3)
    lock, held, most = threading.Lock(), 0, 0

    def enlarged(pixels: np.ndarray) -> np.ndarray:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return np.zeros((64, 64, 3), np.uint8)

    for _ in ArrayImages(np.load(tmp_path / "small.npy")).walk(then=enlarged):
        time.sleep(0.001)
        with lock:
            held -= 1
    assert most <= 3 + 2 + sources.TASK * min(sources.os.cpu_count() or 1, 16), (
        "the first ones say how large they become"
    )


SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from bench.data import sources
from bench.features.files import extract_files
from bench.features.module import ModuleExtractor
import torch

sources.AHEAD_BYTES = 1000

class Broken(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("out of whatever it needs")

extract_files(sources.EncodedImages(Path(sys.argv[1])), ModuleExtractor(Broken(), 4, fingerprint="x"))
"""


def test_an_error_of_the_extractor_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for room would keep it alive."""
    for i in range(600):
        Image.fromarray(noise(20, 20, 3)).save(tmp_path / f"{i:03}.png")
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "out of whatever it needs" in run.stderr


def test_folders_that_cannot_be_listed_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "a.png")
    (tmp_path / "b").mkdir(mode=0o000)
    real = sources.os.scandir

    def denied(path: str) -> object:  # root may list anything
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(sources.os, "scandir", denied)
    with pytest.raises(BenchError, match=r"cannot list the folder .*b: Permission denied"):
        EncodedImages(tmp_path)


def test_no_images_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="holds no images"):
        EncodedImages(tmp_path)
    with pytest.raises(BenchError, match="neither a folder"):
        EncodedImages(tmp_path / "nowhere")
