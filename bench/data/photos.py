"""``photos``: patches of seven everyday photographs that scikit-image and scikit-learn carry, split by photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.data.base import Data, Dataset
from bench.data.decode import decode
from bench.data.options import one_of
from bench.data.packages import package_path, read_verified
from bench.data.split import stratified_split
from bench.space import ImageSpace

TEST_PHOTOS = 3


class _Photo(NamedTuple):
    name: str
    package: str
    distribution: str
    file: str
    sha256: str


_SKIMAGE = ("skimage", "scikit-image>=0.24")
_SKLEARN = ("sklearn", "scikit-learn>=1.4")
PHOTOS = (
    _Photo(
        "astronaut", *_SKIMAGE, "data/astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
    ),
    _Photo("cat", *_SKIMAGE, "data/chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    _Photo("coffee", *_SKIMAGE, "data/coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    _Photo(
        "motorcycle",
        *_SKIMAGE,
        "data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    ),
    _Photo("rocket", *_SKIMAGE, "data/rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    _Photo(
        "temple",
        *_SKLEARN,
        "datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    _Photo(
        "flower",
        *_SKLEARN,
        "datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
)


class Photos(Dataset):
    """Patches of seven colour photographs, split by photograph: textures, for metrics and small models."""

    licence = "public domain / CC0 (astronaut, cat, coffee, rocket), CC BY 2.0 (temple, flower), Middlebury stereo 2014"
    attribution = (
        "NASA; S. van der Walt; R. Michetti; SpaceX; danielbuechele (temple) and vultilion (flower) on flickr.com; "
        "D. Scharstein et al., GCPR 2014 (motorcycle); packaged in scikit-image and scikit-learn"
    )
    paper = ""

    @dataclass(frozen=True)
    class Options:
        """patch: side of a patch in pixels."""

        patch: int = 32

        def __post_init__(self) -> None:
            one_of("patch", self.patch, (32, 64, 16))

    def load(self) -> Data:
        """Three photographs, chosen by the hash of their files, are for testing: cut into patches that do not overlap.

        Training patches overlap by half. The factor ``photo`` is the number of the photograph in ``PHOTOS``.
        """
        patch = self.options.patch
        keys = [bytes.fromhex(photo.sha256) for photo in PHOTOS]
        train_photos, test_photos = stratified_split(keys, None, TEST_PHOTOS)
        train, train_origin = _patches(train_photos, patch, patch // 2)
        test, test_origin = _patches(test_photos, patch, patch)
        return Data(
            name="photos",
            space=ImageSpace(3, patch, patch),
            train=train,
            test=test,
            train_factors={"photo": train_origin},
            test_factors={"photo": test_origin},
        )


def _patches(photos: np.ndarray, patch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """``(N, patch, patch, 3)`` uint8 and the number of each patch's photograph."""
    patches, origin = [], []
    for number in photos:
        windows = np.lib.stride_tricks.sliding_window_view(_read(PHOTOS[number]), (patch, patch), axis=(0, 1))
        cut = np.moveaxis(windows[::step, ::step], 2, -1).reshape(-1, patch, patch, 3)
        patches.append(cut)
        origin.append(np.full(len(cut), number, dtype=np.int64))
    return np.concatenate(patches), np.concatenate(origin)


def _read(photo: _Photo) -> np.ndarray:
    path = package_path(photo.package, photo.distribution) / photo.file
    return decode(read_verified(path, photo.sha256, photo.distribution)).pixels
