"""Users' own images as data sets."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from bench.data.folder import Folder
from bench.errors import BenchError
from bench.space import ImageSpace


def sets(data):
    return {i.tobytes() for i in data.train}, {i.tobytes() for i in data.test}


def test_all_images_are_split_once(write_pictures):
    folder, written = write_pictures({f"{i:03d}.png": (8, 6, 3) for i in range(100)})
    data = Folder(path=str(folder)).load()
    assert data.space == ImageSpace(3, 8, 6)
    assert data.name == "pictures"
    train, test = sets(data)
    assert not train & test
    assert train | test == {pixels.tobytes() for pixels in written.values()}
    assert 8 <= len(test) <= 32
    assert data.train_labels is None


def test_new_names_and_new_images_move_nothing(write_pictures):
    folder, _ = write_pictures({f"{i:03d}.png": (8, 8, 1) for i in range(60)})
    train, test = sets(Folder(path=str(folder)).load())
    for i in range(0, 60, 2):
        (folder / f"{i:03d}.png").rename(folder / f"z{99 - i}.png")
    write_pictures({"added.png": (8, 8, 1)})
    again = sets(Folder(path=str(folder)).load())
    assert train <= again[0]
    assert test <= again[1]


def test_the_split_is_the_same_at_every_resolution_and_in_a_zip(write_pictures, tmp_path):
    folder, _written = write_pictures({f"{i:03d}.png": (16, 16, 1) for i in range(60)})
    shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    full = Folder(path=str(folder)).load()
    assert Folder(path=str(tmp_path / "set.zip")).load().digest() == full.digest()
    half = Folder(path=str(folder), resolution=8).load()
    expected = [Image.fromarray(i[..., 0]).resize((8, 8), Image.Resampling.LANCZOS) for i in full.test]
    np.testing.assert_array_equal(half.test[..., 0], [np.asarray(image) for image in expected])


def test_class_folders_become_labels(write_pictures):
    names = {f"set/{c}/{i}.png": (4, 4, 3) for c in ("dog", "cat", "ape") for i in range(20)}
    folder, written = write_pictures(names)
    data = Folder(path=str(folder), labels="folders").load()
    assert data.classes == ("ape", "cat", "dog")
    by_pixels = {pixels.tobytes(): name.split("/")[1] for name, pixels in written.items()}
    for image, label in zip(data.train, data.train_labels):
        assert by_pixels[image.tobytes()] == data.classes[label]
    write_pictures({"set/stray.png": (4, 4, 3)})
    with pytest.raises(BenchError, match=r"'stray.png' lies in no class folder"):
        Folder(path=str(folder), labels="folders").load()


def test_train_and_test_folders_are_kept_and_validation_is_left_out(write_pictures):
    names = {f"root/{s}/{c}/{i}.png": (4, 4, 3) for s in ("train", "val", "test") for c in "ab" for i in range(5)}
    folder, written = write_pictures(names)
    data = Folder(path=str(folder), labels="folders").load()
    assert data.classes == ("a", "b")
    train, test = sets(data)
    assert train == {p.tobytes() for n, p in written.items() if "/train/" in n}
    assert test == {p.tobytes() for n, p in written.items() if "/test/" in n}
    assert np.bincount(data.test_labels).tolist() == [5, 5]


def test_mixed_sizes_need_a_resolution(write_pictures):
    folder, _ = write_pictures({"a.png": (8, 8, 3), "b.png": (8, 8, 3), "c.png": (9, 12, 3), "d.png": (7, 7, 3)})
    with pytest.raises(
        BenchError, match=r"pictures/c.png has 12x9 pixels but .*pictures/a.png has 8x8; set .* resolution"
    ):
        Folder(path=str(folder)).load()
    assert Folder(path=str(folder), resolution=8, test_share=0.5).load().space == ImageSpace(3, 8, 8)


def test_corrupt_image_stops_with_its_name(write_pictures, tmp_path):
    folder, _ = write_pictures({"a/1.png": (8, 8, 3), "a/2.png": (8, 8, 3)})
    (folder / "a" / "2.png").write_bytes((folder / "a" / "2.png").read_bytes()[:80])
    with pytest.raises(BenchError, match=r"pictures/a/2.png is not a readable image"):
        Folder(path=str(folder)).load()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(folder / "a" / "2.png", "deep/2.png")
    with pytest.raises(BenchError, match=r"set.zip:deep/2.png is not a readable image"):
        Folder(path=str(tmp_path / "set.zip")).load()


def test_a_side_without_images_is_refused(write_pictures):
    folder, _ = write_pictures({"only.png": (8, 8, 3)})
    with pytest.raises(BenchError, match=r"holds 1 images and none of them falls on the (test|training) side"):
        Folder(path=str(folder)).load()


def test_npz_with_its_own_split_and_labels(tmp_path, rng):
    x, y = rng.integers(0, 256, (30, 5, 5), dtype=np.uint8), rng.integers(0, 4, (30, 1), dtype=np.uint8)
    y[0] = 3
    np.savez(tmp_path / "keras.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    data = Folder(path=str(tmp_path / "keras.npz"), labels="stored").load()
    np.testing.assert_array_equal(data.train, x[:20, ..., None])
    np.testing.assert_array_equal(data.test_labels, y[20:, 0])
    assert data.classes == ("0", "1", "2", "3")
    assert Folder(path=str(tmp_path / "keras.npz"), resolution=10).load().test.shape == (10, 10, 10, 1)


def test_adm_npz_with_labels(tmp_path, rng):
    x, y = rng.integers(0, 256, (50, 5, 5, 3), dtype=np.uint8), rng.integers(0, 7, 50)
    np.savez(tmp_path / "adm.npz", x, y)
    data = Folder(path=str(tmp_path / "adm.npz"), labels="stored").load()
    labels = {image.tobytes(): label for image, label in zip(x, y)}
    assert [labels[image.tobytes()] for image in data.train] == data.train_labels.tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3), r"holds float64 \(3,\); labels of 3 images must be whole numbers"),
        (np.zeros(4, int), r"holds int64 \(4,\)"),
        (np.array([0, -1, 2]), "labels from -1 to 2"),
        (None, "stores no labels 'arr_1'"),
    ],
)
def test_labels_that_do_not_fit(labels, message, tmp_path):
    arrays = [np.zeros((3, 4, 4, 3), np.uint8)] + ([] if labels is None else [labels])
    np.savez(tmp_path / "set.npz", *arrays)
    with pytest.raises(BenchError, match=message):
        Folder(path=str(tmp_path / "set.npz"), labels="stored").load()


def test_sides_of_an_npz_must_have_one_size(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=np.zeros((3, 4, 4, 3), np.uint8), x_test=np.zeros((3, 5, 5, 3), np.uint8))
    with pytest.raises(BenchError, match="not of one image size"):
        Folder(path=str(tmp_path / "set.npz")).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, 'needs path = "..."'),
        ({"path": "x", "resolution": 0}, "resolution = 0"),
        ({"path": "x", "labels": "auto"}, "labels = 'auto' is not possible; choose 'none', 'folders', 'stored'"),
        ({"path": "x", "test_share": 1}, "test_share = 1 is not possible"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(BenchError, match=message):
        Folder(**options)
