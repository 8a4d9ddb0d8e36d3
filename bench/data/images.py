"""Images from anywhere: a folder (with its subfolders), a zip, an npz or an npy file -> decoded uint8 pixels.

    images, report = load_images("samples.zip", strict=False)

Data sets and the scoring of foreign samples read their images through this one function.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from bench.data import arrays
from bench.data.decode import decode, fit, pack
from bench.data.split import content_key
from bench.errors import BenchError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
MAX_ENCODED_BYTES = 256 * 2**20
"""An encoded image above this size is refused unread: no picture needs it, and a zip bomb declares it."""

CHUNK, GROUP = 256, 16


@dataclass(frozen=True)
class ImageReport:
    """What ``load_images`` found.

    source: the path that was read.
    names: name of each image in order: path inside the folder or zip (``/`` between the parts), or ``arr_0[17]``.
    digests: SHA-256 digest of each image's pixels before any cropping or resizing; equal images have equal digests.
    formats: number of images of each file format (``{"PNG": 990, "JPEG": 10}``); ``{"array": N}`` for npz and npy.
    corrupt: (name, reason) of each image that could not be decoded and was left out.
    ignored: number of other files (by suffix), which were not opened.
    """

    source: str
    names: tuple[str, ...]
    digests: tuple[bytes, ...]
    formats: dict[str, int]
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


def load_images(
    path: str | os.PathLike[str], *, resolution: int | None = None, strict: bool = False
) -> tuple[np.ndarray | list[np.ndarray], ImageReport]:
    """Decode all images of a folder (recursively), a zip, an npz or an npy file.

    resolution: centre-crop each image to a square and resize it (Lanczos) to this side, in pixels; None leaves all as stored.
    strict: a corrupt image raises BenchError with its name; otherwise it is left out and named in the report.

    Returns uint8 ``(N, H, W, C)``, or a list of ``(H, W, C)`` where sizes differ, in the order of the sorted names, and an
    ImageReport. C is 1 where every image is grey, else 3 (see ``bench.data.decode`` for modes and transparency). Archives are
    read in place: nothing is extracted to disk, and no member's name is used as a path. Of an npz the images are the array
    ``arr_0``, or the only one that can be images. Raises BenchError where the path is missing, empty, damaged or of no known kind.
    """
    path = Path(path).expanduser()
    if resolution is not None and resolution < 1:
        raise BenchError(f"resolution = {resolution} is not possible; choose the side in pixels, 1 or more")
    if not path.exists():
        raise BenchError(f"{path} does not exist; give a folder of images, a .zip, a .npz or a .npy file")
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        return _load_array(path, resolution)
    with _open(path) as source:
        return _load_encoded(path, source, resolution, strict)


class _Source(NamedTuple):
    """Where encoded images come from: their names, how to read one, and how many other files there are."""

    names: list[str]
    read: Callable[[str], bytes]
    ignored: int


class _Decoded(NamedTuple):
    pixels: np.ndarray
    digest: bytes
    format: str


def _load_encoded(
    path: Path, source: _Source, resolution: int | None, strict: bool
) -> tuple[np.ndarray | list[np.ndarray], ImageReport]:
    def attempt(name: str) -> _Decoded | str:
        try:
            pixels, kind = decode(source.read(name))
        except Exception as error:  # decoders fail on damaged files in any way they like
            return _reason(error)
        return _Decoded(pixels if resolution is None else fit(pixels, resolution), content_key(pixels), kind)

    if not source.names:
        raise BenchError(f"{path} holds no images (looked for {', '.join(sorted(SUFFIXES))}, in subfolders too)")
    images: list[np.ndarray] = []
    names, digests, formats, corrupt = [], [], Counter[str](), []
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        for start in range(0, len(source.names), CHUNK):
            chunk = source.names[start : start + CHUNK]
            # one image a task would cost more than decoding a small image
            groups = [chunk[i : i + GROUP] for i in range(0, len(chunk), GROUP)]
            results = chain.from_iterable(pool.map(lambda group: [attempt(name) for name in group], groups))
            for name, result in zip(chunk, results, strict=True):
                if isinstance(result, str):
                    if strict:
                        raise BenchError(f"{_join(path, name)} is not a readable image: {result}")
                    corrupt.append((_printable(name), result))
                    continue
                images.append(result.pixels)
                names.append(_printable(name))
                digests.append(result.digest)
                formats[result.format] += 1
            done = len(images) + len(corrupt)
            rest = (len(source.names) - done) * sum(image.nbytes for image in images[-CHUNK:]) // CHUNK
            arrays.require_memory(rest, f"{path} ({len(source.names)} images)")
    if not images:
        name, reason = corrupt[0]
        raise BenchError(f"none of the {len(corrupt)} images of {path} is readable; the first is {name}: {reason}")
    report = ImageReport(str(path), tuple(names), tuple(digests), dict(formats), tuple(corrupt), source.ignored)
    return pack(images), report


def _load_array(path: Path, resolution: int | None) -> tuple[np.ndarray, ImageReport]:
    headers = arrays.array_headers(path)
    name = arrays.image_name(path, headers)
    images = arrays.image_array(path, name, headers[name])
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        digests = tuple(pool.map(content_key, images))
        if resolution is not None:
            images = np.stack(list(pool.map(lambda image: fit(image, resolution), images)))
    names = tuple(f"{name}[{index}]" for index in range(len(images)))
    return images, ImageReport(str(path), names, digests, {"array": len(images)})


@contextmanager
def _open(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        yield _folder(path)
    elif path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise BenchError(f"{path} is not a readable zip file ({_reason(error)}); write it again") from None
        with archive:
            yield _zip(archive)
    else:
        raise BenchError(f"{path} is neither a folder of images nor a .zip, .npz or .npy file")


def _folder(path: Path) -> _Source:
    """All files below ``path``; linked folders are followed once, hidden files and folders are left alone."""
    found, visited = [], set()
    for parent, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else [f for f in folders if not f.startswith(".")]
        if real not in visited:
            found += [(Path(parent) / file).relative_to(path).as_posix() for file in files if not file.startswith(".")]
        visited.add(real)

    def read(name: str) -> bytes:
        file = path / name
        _refuse_huge(file.stat().st_size)
        return file.read_bytes()

    return _source(found, read)


def _zip(archive: zipfile.ZipFile) -> _Source:
    """The members of a zip, read in memory; directories, hidden files and macOS resource forks are left alone.

    A member whose name leads out of the archive counts as corrupt: nothing is ever written, but such a zip is not to be trusted.
    """
    members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    found = [n for n in members if not any(_is_hidden(part) for part in PurePosixPath(n).parts)]

    def read(name: str) -> bytes:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError("its name leads out of the archive")
        _refuse_huge(members[name].file_size)  # zipfile reads no more than what a member declares
        return archive.read(members[name])

    return _source(found, read)


def _source(found: list[str], read: Callable[[str], bytes]) -> _Source:
    names = sorted(name for name in found if PurePosixPath(name).suffix.lower() in SUFFIXES)
    return _Source(names, read, len(found) - len(names))


def _is_hidden(part: str) -> bool:
    return part == "__MACOSX" or (part.startswith(".") and part != "..")


def _refuse_huge(size: int) -> None:
    if size > MAX_ENCODED_BYTES:
        raise ValueError(f"declares {size / 2**20:.0f} MiB, more than {MAX_ENCODED_BYTES / 2**20:.0f}")


def _join(path: Path, name: str) -> str:
    return f"{path}{'/' if path.is_dir() else ':'}{_printable(name)}"


def _printable(name: str) -> str:
    """Names in archives are foreign text: control characters must not reach a terminal."""
    return name if name.isprintable() else ascii(name)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text ends with an address in memory
        return "not an image, or damaged at its beginning"
    return _printable((str(error).splitlines() or [""])[0]) or type(error).__name__
