"""``folder``: a user's own images, from a folder, a zip, an npz or an npy file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bench.data import arrays
from bench.data.assemble import image_data
from bench.data.base import Data, Dataset
from bench.data.decode import resize_all
from bench.data.held_out import without_classes
from bench.data.images import load_images
from bench.data.options import class_numbers, one_of, path_given, share, whole_number
from bench.data.split import hashed_split
from bench.errors import BenchError

TEST_FOLDERS = ("test", "val", "valid", "validation")


class Folder(Dataset):
    """Your own images: a folder (with subfolders), a .zip, a .npz or a .npy file."""

    licence = "the user's"
    attribution = ""
    paper = ""

    @dataclass(frozen=True)
    class Options:
        """path: folder or file, relative to the working directory.
        resolution: centre-crop to a square and resize (Lanczos) to this side; needed where sizes differ.
        labels: ``none``; ``folders``: the folder of each image is its class; ``stored``: an npz holds them (see ``load``).
        test_share: about this share of the images is for testing, where the set brings no split of its own.
        held_out: numbers of classes that training leaves out and the test side keeps.
        """

        path: str = ""
        resolution: int | None = None
        labels: str = "none"
        test_share: float = 0.2
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            path_given("path", self.path)
            if self.resolution is not None:
                whole_number("resolution", self.resolution, 1, 4096)
            one_of("labels", self.labels, ("none", "folders", "stored"))
            share("test_share", self.test_share)
            class_numbers("held_out", self.held_out)

    def load(self) -> Data:
        """Decode all images; a corrupt one stops with its name (in an archive: ``set.zip:dir/name.png``).

        Split: folders ``train`` and ``test`` (else ``val``, ``valid``, ``validation``) at the top, or arrays ``x_train`` and
        ``x_test`` of an npz, are kept; of a three-way split the validation images are left out. Otherwise every image goes to
        the side that the hash of its pixels says, so that adding an image never moves another one and equal images stay
        together. Stored labels are ``y_train`` and ``y_test``, or ``arr_1`` or ``labels`` beside the images.
        """
        path = Path(self.options.path).expanduser()
        if path.suffix.lower() == ".npz" and path.is_file():
            headers = arrays.array_headers(path)
            if {"x_train", "x_test"} <= headers.keys():
                return self._load_split_npz(path, headers)
        images, report = load_images(path, resolution=self.options.resolution, strict=True)
        places = _without_common_folder([PurePosixPath(name) for name in report.names])
        official = _official_sides(places)
        sides = official or hashed_split(report.digests, self.options.test_share)
        labels, classes = self._labels(path, places, depth=0 if official is None else 1)

        def name_of(index: int) -> str:
            return f"{path}{'/' if path.is_dir() else ':'}{report.names[index]}"

        return without_classes(
            image_data(path.resolve().stem, str(path), images, name_of, sides, labels, classes), self.options.held_out
        )

    def _load_split_npz(self, path: Path, headers: dict[str, arrays.Header]) -> Data:
        """An npz with ``x_train``, ``x_test`` and, where labels are stored, ``y_train``, ``y_test``."""
        train, test = (arrays.image_array(path, name, headers[name]) for name in ("x_train", "x_test"))
        if self.options.resolution is not None:
            train, test = (resize_all(images, self.options.resolution) for images in (train, test))
        if train.shape[1:] != test.shape[1:]:
            raise BenchError(
                f"{path} holds x_train {train.shape} and x_test {test.shape}, which are not of one image size"
            )
        labels: np.ndarray | None = None
        classes: tuple[str, ...] = ()
        if self.options.labels == "stored":
            halves = [_stored_labels(path, headers, y, len(x)) for y, x in (("y_train", train), ("y_test", test))]
            labels, classes = np.concatenate(halves), _numbered_classes(np.concatenate(halves))
        sides = np.arange(len(train)), np.arange(len(train), len(train) + len(test))
        images = np.concatenate([train, test])
        return without_classes(
            image_data(path.resolve().stem, str(path), images, lambda i: f"{path}[{i}]", sides, labels, classes),
            self.options.held_out,
        )

    def _labels(self, path: Path, places: list[PurePosixPath], depth: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
        if self.options.labels == "folders":
            return _folder_labels(path, places, depth)
        if self.options.labels == "stored":
            headers = arrays.array_headers(path) if path.suffix.lower() == ".npz" and path.is_file() else {}
            name = next((name for name in ("arr_1", "labels") if name in headers), "arr_1")
            labels = _stored_labels(path, headers, name, len(places))
            return labels, _numbered_classes(labels)
        return None, ()


def _without_common_folder(places: list[PurePosixPath]) -> list[PurePosixPath]:
    """Paths below the deepest folder that holds all images: archives are often packed with one folder around it all."""
    common = PurePosixPath(os.path.commonpath([place.parent for place in places]) or ".")
    return [place.relative_to(common) for place in places]


def _official_sides(places: list[PurePosixPath]) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (train, test) where every image lies in a folder of a known side and both sides are there."""
    tops = [place.parts[0] if len(place.parts) > 1 else "" for place in places]
    test_folder = next((folder for folder in TEST_FOLDERS if folder in tops), None)
    if "train" not in tops or test_folder is None or set(tops) - {"train", *TEST_FOLDERS}:
        return None
    return np.flatnonzero([top == "train" for top in tops]), np.flatnonzero([top == test_folder for top in tops])


def _folder_labels(path: Path, places: list[PurePosixPath], depth: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of an image is the name of its folder at ``depth`` (below ``train`` and ``test`` where these exist)."""
    for place in places:
        if len(place.parts) < depth + 2:
            raise BenchError(f"{path}: '{place}' lies in no class folder; put it into one, or set labels = \"none\"")
    names = [place.parts[depth] for place in places]
    classes = tuple(sorted(set(names)))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in names], dtype=np.int64), classes


def _stored_labels(path: Path, headers: dict[str, arrays.Header], name: str, count: int) -> np.ndarray:
    if name not in headers:
        raise BenchError(f"{path} stores no labels '{name}'; store them in an npz, or set labels = \"none\"")
    header = headers[name]
    if header.dtype.kind not in "iu" or header.shape not in ((count,), (count, 1)):
        raise BenchError(
            f"{path}:{name} holds {header}; labels of {count} images must be whole numbers of shape ({count},)"
        )
    labels = arrays.load_array(path, name, header).reshape(count).astype(np.int64)
    if labels.min() < 0 or labels.max() >= 1_000_000:
        raise BenchError(
            f"{path}:{name} holds labels from {labels.min()} to {labels.max()}; classes are numbered from 0"
        )
    return labels


def _numbered_classes(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(labels.max()) + 1))
