"""``digits``: the 1797 handwritten digits of scikit-learn."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.data.base import Data, Dataset
from bench.data.held_out import without_classes
from bench.data.options import class_numbers, one_of
from bench.data.packages import package_path, read_verified
from bench.data.split import content_key, stratified_split
from bench.space import ImageSpace

DISTRIBUTION = "scikit-learn>=1.4"
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
TEST_SIZE = 500


class Digits(Dataset):
    """Handwritten digits, 8x8 grey, upsampled to 16x16 (1297 train, 500 test): the demo set."""

    licence = "CC BY 4.0 (UCI), packaged in scikit-learn (BSD-3-Clause)"
    attribution = (
        "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998"
    )
    paper = "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998"

    @dataclass(frozen=True)
    class Options:
        """resolution: 8 as scanned, or 16 or 32, upsampled from the 17 grey levels by bicubic interpolation in floating point.

        held_out: classes that training leaves out and the test side keeps.
        """

        resolution: int = 16
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            class_numbers("held_out", self.held_out)
            one_of("resolution", self.resolution, (8, 16, 32))

    def load(self) -> Data:
        """1797 images; the test side is chosen by the hash of the 8x8 pixels, 50 or so of each digit."""
        path = package_path("sklearn", DISTRIBUTION) / "datasets" / "data" / "digits.csv.gz"
        raw = gzip.decompress(read_verified(path, SHA256, DISTRIBUTION))
        table = np.loadtxt(raw.decode().splitlines(), delimiter=",", dtype=np.uint8)
        scans, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
        images = np.stack([_enlarge(scan, self.options.resolution) for scan in scans])[..., None]
        train, test = stratified_split([content_key(scan) for scan in scans], labels, TEST_SIZE)
        data = Data(
            name="digits",
            space=ImageSpace(1, self.options.resolution, self.options.resolution),
            train=images[train],
            test=images[test],
            train_labels=labels[train],
            test_labels=labels[test],
            classes=tuple("0123456789"),
        )
        return without_classes(data, self.options.held_out)


def _enlarge(scan: np.ndarray, resolution: int) -> np.ndarray:
    """8x8 counts from 0 to 16 -> uint8 ``(resolution, resolution)``; overshoot is clipped."""
    counts = scan.astype(np.float32)
    if resolution != 8:
        picture = Image.fromarray(counts).resize((resolution, resolution), Image.Resampling.BICUBIC)
        counts = np.asarray(picture)
    return np.rint(counts.clip(0, 16) * (255 / 16)).astype(np.uint8)
