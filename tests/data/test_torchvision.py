"""torchvision's readers on real files in the formats that they read."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from bench.data.mnist import Mnist
from bench.data.torchvision_sets import Torchvision
from bench.errors import BenchError


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def digits():
    return Mnist(resolution=28).load()


@pytest.fixture
def fashion_files(tmp_path, digits):
    """Real MNIST digits in the files in which FashionMNIST is published."""
    data = digits
    raw = tmp_path / "FashionMNIST" / "raw"
    for prefix, images, labels in (("train", data.train, data.train_labels), ("t10k", data.test, data.test_labels)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images[..., 0])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)
    return tmp_path, data


def write_country(root, parts, count=3, size=(8, 8)):
    rng = np.random.default_rng(0)
    for part in parts:
        for country in ("CH", "NO"):
            folder = root / "country211" / part / country
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def test_official_train_and_test_are_kept(fashion_files):
    root, expected = fashion_files
    data = Torchvision(name="FashionMNIST", path=str(root)).load()
    np.testing.assert_array_equal(data.train, expected.train)
    np.testing.assert_array_equal(data.test, expected.test)
    np.testing.assert_array_equal(data.test_labels, expected.test_labels)
    assert data.classes[0] == "T-shirt/top"
    assert data.name == "FashionMNIST"
    resized = Torchvision(name="FashionMNIST", path=str(root), resolution=32).load()
    assert resized.train.shape == (4000, 32, 32, 1)


def test_one_part_alone_is_split_by_content(fashion_files):
    root, expected = fashion_files
    data = Torchvision(name="FashionMNIST", path=str(root), arguments={"train": False}).load()
    assert len(data.train) + len(data.test) == len(expected.test)
    assert 140 < len(data.test) < 260


def test_sets_with_named_parts(tmp_path):
    write_country(tmp_path, ["train", "valid", "test"])
    data = Torchvision(name="Country211", path=str(tmp_path)).load()
    assert data.train.shape == (6, 8, 8, 3)
    assert data.test.shape == (6, 8, 8, 3)
    assert data.classes == ("CH", "NO")


def test_set_without_parts_is_split_by_content(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("Forest", "River"):
        folder = tmp_path / "eurosat" / "2750" / kind
        folder.mkdir(parents=True)
        for i in range(30):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    data = Torchvision(name="EuroSAT", path=str(tmp_path)).load()
    assert len(data.train) + len(data.test) == 60
    assert len(data.test) > 3
    assert data.classes == ("Forest", "River")


def test_corrupt_file_is_named(tmp_path):
    write_country(tmp_path, ["train", "test"])
    bad = tmp_path / "country211" / "test" / "NO" / "1.png"
    bad.write_bytes(bad.read_bytes()[:70])
    with pytest.raises(BenchError, match=rf"Country211\[test\]\[4\] \({bad}\) is not a readable image"):
        Torchvision(name="Country211", path=str(tmp_path)).load()


def test_mixed_sizes_need_a_resolution(tmp_path):
    write_country(tmp_path, ["train"])
    write_country(tmp_path, ["test"], size=(9, 9))
    with pytest.raises(
        BenchError, match=r"Country211\[test\]\[0\] has 9x9 pixels but Country211\[train\]\[0\] has 8x8"
    ):
        Torchvision(name="Country211", path=str(tmp_path)).load()


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "SVHN", "Country211", "Flowers102", "EuroSAT", "EMNIST", "STL10"])
def test_missing_files_are_one_sentence(name, tmp_path):
    arguments = {"split": "letters"} if name == "EMNIST" else {}
    with pytest.raises(BenchError) as caught:
        Torchvision(name=name, path=str(tmp_path), arguments=arguments).load()
    message = str(caught.value)
    assert name in message
    assert str(tmp_path) in message
    assert "download = true" in message
    assert "\n" not in message


def test_missing_folder_is_not_created(tmp_path):
    with pytest.raises(BenchError, match="does not exist; put the files of CIFAR10 there"):
        Torchvision(name="CIFAR10", path=str(tmp_path / "nowhere")).load()
    assert not (tmp_path / "nowhere").exists()


def test_damaged_idx_file_is_a_sentence(fashion_files):
    root, _ = fashion_files
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(gzip.compress(file.read_bytes())[:5000])
    with pytest.raises(BenchError, match=r"torchvision cannot .*FashionMNIST"):
        Torchvision(name="FashionMNIST", path=str(root)).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "CIFAR11"}, "no data set 'CIFAR11'; did you mean 'CIFAR10'"),
        ({"name": "CIFAR10", "arguments": {"trian": True}}, "no argument 'trian'; did you mean 'train'"),
        ({"name": "SVHN", "arguments": {"split": "tset"}}, "torchvision cannot open SVHN: .*tset"),
    ],
)
def test_wrong_names(options, message, tmp_path):
    with pytest.raises(BenchError, match=message):
        Torchvision(path=str(tmp_path), **options).load()


@pytest.mark.parametrize("options", [{}, {"name": "CIFAR10"}, {"name": "CIFAR10", "path": "x", "download": "yes"}])
def test_wrong_options(options):
    with pytest.raises(BenchError, match="data set Torchvision: "):
        Torchvision(**options)
