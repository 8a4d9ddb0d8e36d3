"""load_images on real files: formats, modes, archives, and everything that can be wrong with them."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from bench.data import sources
from bench.data.decode import decode, fit
from bench.data.images import load_images
from bench.errors import BenchError


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zip_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


def test_folder_is_read_recursively_in_the_order_of_names(write_pictures):
    folder, written = write_pictures({"b/2.png": (8, 9, 3), "a.bmp": (8, 9, 3), "b/1.PNG": (8, 9, 3)})
    (folder / "README.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"not a picture either")
    images, report = load_images(folder)
    assert report.names == ("a.bmp", "b/1.PNG", "b/2.png")
    np.testing.assert_array_equal(images, [written[name] for name in report.names])
    assert report.formats == {"BMP": 1, "PNG": 2}
    assert report.ignored == 1
    assert report.corrupt == ()


def test_zip_npz_npy_and_folder_give_the_same_images_and_digests(write_pictures, tmp_path):
    folder, written = write_pictures({f"{i}.png": (6, 6, 3) for i in range(7)})
    stacked = np.stack(list(written.values()))
    zip_of(tmp_path / "set.zip", {name: (folder / name).read_bytes() for name in written})
    np.savez_compressed(tmp_path / "set.npz", stacked)
    np.save(tmp_path / "set.npy", stacked)
    expected, expected_report = load_images(folder)
    for name in ("set.zip", "set.npz", "set.npy"):
        images, report = load_images(tmp_path / name)
        np.testing.assert_array_equal(images, expected)
        assert report.digests == expected_report.digests


def test_digests_are_of_the_pixels_before_resizing(write_pictures):
    folder, _ = write_pictures({"a.png": (20, 30, 3), "b.png": (20, 30, 3)})
    images, report = load_images(folder, resolution=8)
    assert images.shape == (2, 8, 8, 3)
    assert report.digests == load_images(folder)[1].digests


def test_mixed_sizes_give_a_list_and_one_size_with_resolution(write_pictures):
    folder, written = write_pictures({"a.png": (8, 8, 3), "b.png": (10, 16, 3)})
    images, _ = load_images(folder)
    assert isinstance(images, list)
    np.testing.assert_array_equal(images[1], written["b.png"])
    images, _ = load_images(folder, resolution=8)
    np.testing.assert_array_equal(images[0], written["a.png"])  # already fits: untouched
    square = Image.fromarray(written["b.png"][:, 3:13])
    np.testing.assert_array_equal(images[1], np.asarray(square.resize((8, 8), Image.Resampling.LANCZOS)))


def test_linked_folders_are_followed_once(write_pictures, tmp_path):
    folder, _ = write_pictures({"a/1.png": (4, 4, 3)})
    other, _ = write_pictures({"2.png": (4, 4, 3)}, folder="elsewhere")
    os.symlink(other, folder / "b")
    os.symlink(folder, folder / "loop")
    assert load_images(folder)[1].names == ("a/1.png", "b/2.png")


# --- modes ----------------------------------------------------------------------------------------------------------


def test_grey_stays_one_channel_unless_one_image_has_colour(write_pictures):
    folder, written = write_pictures({"a.png": (5, 5, 1), "b.png": (5, 5, 1)})
    assert load_images(folder)[0].shape == (2, 5, 5, 1)
    folder, more = write_pictures({"c.png": (5, 5, 3)})
    images, _ = load_images(folder)
    assert images.shape == (3, 5, 5, 3)
    np.testing.assert_array_equal(images[0], np.repeat(written["a.png"], 3, axis=2))
    np.testing.assert_array_equal(images[2], more["c.png"])


def test_transparency_is_composited_on_white(rng):
    rgba = rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    pixels, *_ = decode(encoded(Image.fromarray(rgba)))
    np.testing.assert_allclose(pixels, expected, atol=1)
    pixels, *_ = decode(encoded(Image.fromarray(rgba[..., [0, 3]], mode="LA")))
    assert pixels.shape == (9, 9, 1)
    np.testing.assert_allclose(pixels, expected[..., :1], atol=1)


def test_palette_with_a_transparent_colour(rng):
    palette = Image.fromarray(rng.integers(0, 2, (6, 6), dtype=np.uint8) * 1, mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    pixels, *_ = decode(encoded(palette, transparency=0))
    index = np.asarray(palette)
    np.testing.assert_array_equal(pixels[index == 0], np.full(((index == 0).sum(), 3), 255))
    np.testing.assert_array_equal(pixels[index == 1], np.tile([200, 100, 50], ((index == 1).sum(), 1)))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels, *_ = decode(encoded(Image.fromarray(values), kind))
        np.testing.assert_array_equal(pixels[..., 0], [[0, 1, 128, 255]])


def test_cmyk_becomes_rgb_and_float_tiff_is_refused():
    pixels, kind, _ = decode(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"))
    assert kind == "JPEG"
    assert pixels.shape == (4, 4, 3)
    assert pixels[0, 0, 0] > 200 > 60 > pixels[0, 0, 1]
    with pytest.raises(ValueError, match="32-bit pixels"):
        decode(encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"))


def test_fit_crops_the_centre():
    image = np.zeros((4, 10, 1), dtype=np.uint8)
    image[:, 3:7] = 255
    assert fit(image, 4).min() == 255
    assert fit(image, 2).shape == (2, 2, 1)


# --- corrupt files ----------------------------------------------------------------------------------------------------


def flip_png_data(raw: bytes) -> bytes:
    """Change a grey level inside the compressed data but keep the stream valid: only the chunk's checksum can tell."""
    start = raw.index(b"IDAT")
    length = struct.unpack(">I", raw[start - 4 : start])[0]
    data = bytearray(zlib.decompress(raw[start + 4 : start + 4 + length]))
    data[5] ^= 255
    packed = zlib.compress(bytes(data), 0)
    chunk = struct.pack(">I", len(packed)) + b"IDAT" + packed + raw[start + 4 + length : start + 8 + length]
    return raw[: start - 4] + chunk + raw[start + 8 + length :]


CORRUPT = {
    "empty.png": lambda raw: b"",
    "text.png": lambda raw: b"<html>404 not found</html>",
    "cut.png": lambda raw: raw[: len(raw) // 2],
    "headless.png": lambda raw: raw[8:],
    "zeros.png": lambda raw: raw[:50] + bytes(len(raw) - 50),
    "checksum.png": flip_png_data,
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_image_is_named_counted_and_stops_when_strict(name, write_pictures):
    folder, written = write_pictures({"good.png": (32, 32, 3), name: (32, 32, 3)})
    (folder / name).write_bytes(CORRUPT[name]((folder / name).read_bytes()))
    images, report = load_images(folder)
    np.testing.assert_array_equal(images, written["good.png"][None])
    assert [file for file, _ in report.corrupt] == [name]
    assert f"1 images from {folder}; 1 corrupt, left out: {name} (" in report.summary()
    assert " at 0x" not in report.summary()
    with pytest.raises(BenchError, match=f"pictures/{name} is not a readable image: ."):
        load_images(folder, strict=True)


def test_cut_jpeg_is_corrupt(tmp_path, rng):
    raw = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(BenchError, match=r"none of the 1 images .* a.jpg: .*truncated"):
        load_images(tmp_path)


def test_member_of_a_zip_is_named(tmp_path, rng):
    good = encoded(Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)))
    path = zip_of(tmp_path / "set.zip", {"x/good.png": good, "x/bad.png": good[:60]})
    with pytest.raises(BenchError, match=r"set.zip:x/bad.png is not a readable image"):
        load_images(path, strict=True)
    assert load_images(path)[1].corrupt[0][0] == "x/bad.png"


def test_damaged_member_data_is_found_by_its_checksum(tmp_path, rng):
    good = encoded(Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)), "BMP")
    path = zip_of(tmp_path / "set.zip", {"a.bmp": good, "b.bmp": good})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"a.bmp") + 5 + 100] ^= 255  # a pixel: the picture itself stays decodable
    path.write_bytes(raw)
    assert load_images(path)[1].corrupt == (("a.bmp", "Bad CRC-32 for file 'a.bmp'"),)


@pytest.mark.parametrize("name", ["cut.zip", "cut.npz", "cut.npy", "text.zip", "text.npz", "text.npy", "empty.npy"])
def test_damaged_archive_is_one_sentence(name, tmp_path, rng):
    pixels = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / name
    if name.startswith("cut"):
        writer = {"npz": np.savez_compressed, "npy": np.save}.get(name[-3:])
        if writer:
            writer(path, pixels)
        else:
            zip_of(path, {f"{i}.png": encoded(Image.fromarray(p)) for i, p in enumerate(pixels)})
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes(b"no archive" if name.startswith("text") else b"")
    with pytest.raises(BenchError, match=rf"{name} is not a readable \.?(zip|npz|npy) file \(.+\)"):
        load_images(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.float32), r"holds float32 \(3, 8, 8, 3\); images must be uint8"),
        (np.zeros((3, 8, 8, 3), np.int64), "holds int64"),
        (np.zeros((3, 3, 8, 8), np.uint8), r"shape \(3, 3, 8, 8\).*np.moveaxis"),
        (np.zeros((3, 8, 8, 4), np.uint8), r"shape \(3, 8, 8, 4\); images must be"),
        (np.zeros((3, 64), np.uint8), r"shape \(3, 64\); images must be"),
        (np.zeros((0, 8, 8, 3), np.uint8), "is empty"),
        (np.array([{"a": 1}], dtype=object), "pickled Python objects, which are never loaded"),
    ],
    ids=["float", "int64", "nchw", "rgba", "flat", "empty", "pickle"],
)
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_wrong_array_is_named(array, message, kind, tmp_path):
    path = tmp_path / f"set.{kind}"
    (np.savez if kind == "npz" else np.save)(path, array)
    with pytest.raises(BenchError, match=message) as caught:
        load_images(path)
    assert str(path) in str(caught.value)


def test_pickle_in_an_npy_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(BenchError, match="pickled"):
        load_images(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()


def test_npz_takes_arr_0_or_the_only_images(tmp_path, rng):
    a, b = rng.integers(0, 256, (2, 4, 5, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "adm.npz", a, np.arange(4))
    np.testing.assert_array_equal(load_images(tmp_path / "adm.npz")[0], a)
    np.savez(tmp_path / "named.npz", images=b[..., 0], labels=np.arange(4))
    np.testing.assert_array_equal(load_images(tmp_path / "named.npz")[0], b[..., :1])
    np.savez(tmp_path / "two.npz", x=a, y=b)
    with pytest.raises(BenchError, match=r"must hold its images as the array 'arr_0'.*x: uint8 \(4, 5, 5, 3\)"):
        load_images(tmp_path / "two.npz")
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(BenchError, match=r"it holds mu: float64 \(3,\), sigma"):
        load_images(tmp_path / "statistics.npz")


# --- hostile archives -------------------------------------------------------------------------------------------------


def test_nothing_is_extracted_wherever_a_member_points(tmp_path, rng):
    png = encoded(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)))
    inner = tmp_path / "inner"
    inner.mkdir()
    members = {"../../evil.png": png, "/abs.png": png, "a.png": png, "__MACOSX/._a.png": b"fork", ".b.png": b"hidden"}
    path = zip_of(inner / "set.zip", members)
    before = sorted(tmp_path.rglob("*"))
    _, report = load_images(path)
    assert report.names == ("a.png",)
    reason = "its name leads out of the archive"
    assert report.corrupt == (("../../evil.png", reason), ("/abs.png", reason))
    assert sorted(tmp_path.rglob("*")) == before


def test_member_that_declares_too_much_is_refused_unread(tmp_path, rng, monkeypatch):
    png = encoded(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)))
    bomb = zip_of(tmp_path / "bomb.zip", {"a.png": png, "b.png": bytes(3 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(sources, "MAX_ENCODED_BYTES", 2**20)
    assert load_images(bomb)[1].corrupt == (("b.png", "declares 3 MiB, more than 1"),)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_png_of_too_many_pixels_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 5_000, 8, 0, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(raw)
    with pytest.raises(BenchError, match=r"bomb.png.*30000 x 5000 pixels"):
        load_images(tmp_path, strict=True)


def test_npy_header_that_announces_more_than_there_is(tmp_path):
    path = tmp_path / "liar.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 64, 64, 3)}
        )
        file.write(bytes(100))
    with pytest.raises(BenchError, match="bytes of data announced, 100 there"):
        load_images(path)


def test_array_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.npy"
    shape = (10**9, 64, 64, 3)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)))  # a sparse file: no disk is used
    with pytest.raises(BenchError, match=r"needs 11444.1 GiB of memory decoded, but .* GiB are available"):
        load_images(path)


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path):
    path = zip_of(tmp_path / "set.zip", {"a\x1b[31m.png": b"no picture"})
    with pytest.raises(BenchError) as caught:
        load_images(path, strict=True)
    assert str(caught.value).isprintable()


def test_encrypted_member_is_corrupt_not_a_crash(tmp_path, rng):
    png = encoded(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)))
    path = zip_of(tmp_path / "set.zip", {"a.png": png})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(BenchError, match=r"set.zip:a.png is not a readable image: .*encrypted"):
        load_images(path, strict=True)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: p, "does not exist"),
        (lambda p: (p.mkdir(), p)[1], "holds no images"),
        (lambda p: (p.write_text("x"), p)[1], "neither a folder of images nor"),
        (lambda p: zip_of(p.with_suffix(".zip"), {"a.txt": b"x"}), "holds no images"),
    ],
    ids=["missing", "empty folder", "other file", "zip without images"],
)
def test_unusable_path_is_one_sentence(prepare, message, tmp_path):
    with pytest.raises(BenchError, match=message):
        load_images(prepare(tmp_path / "thing"))


def test_resolution_must_be_positive(write_pictures):
    folder, _ = write_pictures({"a.png": (4, 4, 3)})
    with pytest.raises(BenchError, match="resolution = 0 is not possible"):
        load_images(folder, resolution=0)
