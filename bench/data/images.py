"""Images from anywhere: a folder (with its subfolders), a zip, an npz or an npy file -> decoded uint8 pixels.

    images, report = load_images("samples.zip", strict=False)

What holds them all in memory reads them here; what looks at each of them once walks ``bench.data.sources``.
"""

from __future__ import annotations

import collections
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data import arrays
from bench.data.decode import Transparency, fit, pack
from bench.data.sources import ArrayImages, Decoded, EncodedImages, ImageSource, Unreadable
from bench.errors import BenchError

CHUNK = 256  # images between two looks at the memory that is left


@dataclass(frozen=True)
class ImageReport:
    """What was found where images came from.

    source: the path that was read.
    names: name of each image in order: path inside the folder or zip (``/`` between the parts), or ``arr_0[17]``.
    digests: SHA-256 digest of each image's pixels before any cropping or resizing; equal images have equal digests.
    formats: number of images of each file format (``{"PNG": 990, "JPEG": 10}``); ``{"array": N}`` for npz and npy.
    shapes: number of images of each stored shape ``(H, W, C)``.
    transparent: number of images with a pixel that was not wholly opaque.
    corrupt: (name, reason) of each image that could not be decoded and was left out.
    ignored: number of other files (by suffix), which were not opened.
    """

    source: str
    names: tuple[str, ...]
    digests: tuple[bytes, ...]
    formats: dict[str, int]
    shapes: dict[tuple[int, ...], int]
    transparent: int = 0
    corrupt: tuple[tuple[str, str], ...] = ()
    ignored: int = 0

    def summary(self) -> str:
        """One line for the user, e.g. ``990 images from out.zip; 2 corrupt, left out: a.png (...), b.png (...)``."""
        line = f"{len(self.names)} images from {self.source}"
        if self.corrupt:
            named = ", ".join(f"{name} ({reason})" for name, reason in self.corrupt[:5])
            more = ", ..." if len(self.corrupt) > 5 else ""
            line += f"; {len(self.corrupt)} corrupt, left out: {named}{more}"
        return line


class Tally:
    """Makes the report of images while they pass by."""

    def __init__(self, source: ImageSource, strict: bool, where: str) -> None:
        """strict: a corrupt image raises BenchError with its name. where: the path, for the report."""
        self._source, self._strict, self._where = source, strict, where
        self._indices: list[int] = []
        self._digests: list[bytes] = []
        self._formats, self._shapes = Counter[str](), Counter[tuple[int, ...]]()
        self._corrupt: list[tuple[str, str]] = []
        self._transparent = 0

    @property
    def corrupt(self) -> int:
        return len(self._corrupt)

    def readable(self, images: Iterable[Decoded | Unreadable]) -> Iterator[Decoded]:
        """Those that could be decoded; BenchError at the end where none could."""
        for image in images:
            if isinstance(image, Unreadable):
                if self._strict:
                    raise BenchError(f"{self._source.place(image.number)} is not a readable image: {image.reason}")
                self._corrupt.append((self._source.names[image.number], image.reason))
                continue
            self._indices.append(image.number)
            self._digests.append(image.digest)
            self._formats[image.format] += 1
            self._shapes[image.shape] += 1
            self._transparent += image.transparent
            yield image
        if not self._indices:
            name, reason = self._corrupt[0]
            raise BenchError(
                f"none of the {len(self._corrupt)} images of {self._where} is readable; the first is {name}: {reason}"
            )

    def report(self) -> ImageReport:
        return ImageReport(
            self._where,
            tuple(self._source.names[index] for index in self._indices),
            tuple(self._digests),
            dict(self._formats),
            dict(self._shapes),
            self._transparent,
            tuple(self._corrupt),
            self._source.ignored,
        )


def load_images(
    path: str | os.PathLike[str],
    *,
    resolution: int | None = None,
    strict: bool = False,
    transparency: Transparency = "white",
) -> tuple[np.ndarray | list[np.ndarray], ImageReport]:
    """Decode all images of a folder (recursively), a zip, an npz or an npy file.

    resolution: centre-crop each image to a square and resize it (Lanczos) to this side, in pixels; None leaves all as stored.
    strict: a corrupt image raises BenchError with its name; otherwise it is left out and named in the report.

    Returns uint8 ``(N, H, W, C)``, or a list of ``(H, W, C)`` where sizes differ, in the order of the sorted names, and an
    ImageReport. C is 1 where every image is grey, else 3 (see ``bench.data.decode`` for modes and transparency). Of an npz the
    images are the array ``arr_0``, or the only one that can be images. Raises BenchError where the path is missing, empty, damaged
    or of no known kind.
    """
    if resolution is not None and resolution < 1:
        raise BenchError(f"resolution = {resolution} is not possible; choose the side in pixels, 1 or more")
    source = open_images(path)
    tally = Tally(source, strict, str(Path(path).expanduser()))
    if isinstance(source, ArrayImages) and resolution is None:
        with contextlib.closing(source.walk()) as walked:
            collections.deque(tally.readable(walked), maxlen=0)
        return source.images, tally.report()
    found: list[np.ndarray] = []
    then = None if resolution is None else lambda pixels: fit(pixels, resolution)
    with contextlib.closing(source.walk(transparency=transparency, then=then)) as walked:
        for image in tally.readable(walked):
            found.append(image.pixels)
            if len(found) % CHUNK == 0:
                rest = (len(source) - len(found)) * sum(each.nbytes for each in found[-CHUNK:]) // CHUNK
                arrays.require_memory(rest, f"{path} ({len(source)} images)")
    return pack(found), tally.report()


def open_images(path: str | os.PathLike[str]) -> EncodedImages | ArrayImages:
    """The images of a folder, a zip, an npz or an npy file, to be walked; arrays are read at once. BenchError as ``load_images``."""
    path = Path(path).expanduser()
    if not path.exists():
        raise BenchError(f"{path} does not exist; give a folder of images, a .zip, a .npz or a .npy file")
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        headers = arrays.array_headers(path)
        name = arrays.image_name(path, headers)
        return ArrayImages(arrays.image_array(path, name, headers[name]), name)
    return EncodedImages(path)
