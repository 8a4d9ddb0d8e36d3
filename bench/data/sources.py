"""Where images come from: listed at once, read and decoded in threads as they are looked at, so that memory stays bounded.

Folders and zips of encoded images, and arrays that are in memory already, are walked in the same way. Archives are read in
place: nothing is extracted to disk, and no member's name is used as a path.
"""

from __future__ import annotations

import abc
import collections
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from bench.data.decode import Picture, Transparency, decode
from bench.data.split import content_key
from bench.errors import BenchError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
MAX_ENCODED_BYTES = 256 * 2**20
"""An encoded image above this size is refused unread: no picture needs it, and a zip bomb declares it."""

AHEAD, AHEAD_BYTES = 512, 1 << 27  # images, and their decoded bytes, that wait for whoever looks at them
TASK, TASK_BYTES = (
    16,
    1 << 20,
)  # images of one task of a thread: one image a task would cost more than decoding a small one


class Decoded(NamedTuple):
    """number: its place in ``names`` of the source. digest: of the pixels before whatever was done ``then``."""

    number: int
    pixels: np.ndarray
    digest: bytes
    format: str
    shape: tuple[int, ...]
    transparent: bool


class Unreadable(NamedTuple):
    number: int
    reason: str


class ImageSource(abc.ABC):
    """Images in a fixed order. names: of each, as a person may be shown it. ignored: number of other files there."""

    names: Sequence[str]
    ignored: int = 0

    @abc.abstractmethod
    def place(self, index: int) -> str:
        """Where image ``index`` is, for an error."""

    @abc.abstractmethod
    def opened(self) -> AbstractContextManager[Callable[[int, Transparency], Picture]]:
        """What gives image ``index``, from several threads; it may raise anything on a damaged one."""

    def __len__(self) -> int:
        return len(self.names)

    def walk(
        self,
        chosen: Sequence[int] | None = None,
        *,
        transparency: Transparency = "white",
        key: Callable[[np.ndarray], bytes] = content_key,
        then: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Iterator[Decoded | Unreadable]:
        """The images, or those of the indices ``chosen``, in order; a few threads decode some in advance.

        key: gives the digest of an image's pixels. then: applied to the pixels after that, in the threads.
        """
        with self.opened() as read:

            def attempt(index: int) -> Decoded | Unreadable:
                try:
                    picture = read(index, transparency)
                except Exception as error:  # decoders fail on damaged files in any way they like
                    return Unreadable(index, reason_of(error))
                pixels = picture.pixels if then is None else then(picture.pixels)
                digest = key(picture.pixels)
                return Decoded(index, pixels, digest, picture.format, picture.pixels.shape, picture.transparent)

            yield from _in_threads(attempt, range(len(self)) if chosen is None else chosen)


class EncodedImages(ImageSource):
    """The image files of a folder (with its subfolders) or of a zip, in the order of their sorted names; nothing is decoded yet.

    Raises BenchError where the path is no folder and no readable zip, or holds no images.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        with _open(self.path) as files:
            self._files, self.ignored = files.names, files.ignored
        if not self._files:
            raise BenchError(f"{path} holds no images (looked for {', '.join(sorted(SUFFIXES))}, in subfolders too)")
        self.names = [printable(name) for name in self._files]

    def place(self, index: int) -> str:
        return f"{self.path}{'/' if self.path.is_dir() else ':'}{self.names[index]}"

    @contextmanager
    def opened(self) -> Iterator[Callable[[int, Transparency], Picture]]:
        with _open(self.path) as files:
            yield lambda index, transparency: decode(files.read(self._files[index]), transparency)


class ArrayImages(ImageSource):
    """Images in memory: uint8 ``(N, H, W, C)``."""

    def __init__(self, images: np.ndarray, name: str = "array") -> None:
        self.images, self.name = images, name
        self.names = [f"{name}[{index}]" for index in range(len(images))]

    def place(self, index: int) -> str:
        return self.names[index]

    def opened(self) -> AbstractContextManager[Callable[[int, Transparency], Picture]]:
        return nullcontext(lambda index, transparency: Picture(self.images[index], "array", False))


def _in_threads(
    attempt: Callable[[int], Decoded | Unreadable], indices: Sequence[int]
) -> Iterator[Decoded | Unreadable]:
    """``attempt`` of each index, in order; as many in advance as the largest image met so far lets fit into ``AHEAD_BYTES``."""
    threads = min(os.cpu_count() or 1, 16)
    waiting: collections.deque[Future[list[Decoded | Unreadable]]] = collections.deque()
    todo, pending = iter(indices), 0
    largest = 0  # bytes of the largest image met; until there is one, threads take one at a time
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        while True:
            size = min(max(TASK_BYTES // largest, 1), TASK) if largest else 1
            ahead = min(AHEAD_BYTES // largest, AHEAD) if largest else threads
            while pending < max(ahead, threads * size):
                group = list(islice(todo, size))
                if not group:
                    break
                waiting.append(pool.submit(lambda group: [attempt(index) for index in group], group))
                pending += len(group)
            if not waiting:
                return
            found = waiting.popleft().result()
            pending -= len(found)
            largest = max([largest, *(item.pixels.nbytes for item in found if isinstance(item, Decoded))])
            yield from found
    finally:  # also where whoever looks at them stops early
        pool.shutdown(cancel_futures=True)


class _Files(NamedTuple):
    """The encoded images of a place: their names, how to read one, and how many other files there are."""

    names: list[str]
    read: Callable[[str], bytes]
    ignored: int


@contextmanager
def _open(path: Path) -> Iterator[_Files]:
    if path.is_dir():
        yield _folder(path)
    elif path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise BenchError(f"{path} is not a readable zip file ({reason_of(error)}); write it again") from None
        with archive:
            yield _zip(archive)
    else:
        raise BenchError(f"{path} is neither a folder of images nor a .zip, .npz or .npy file")


def _folder(path: Path) -> _Files:
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

    return _images_among(found, read)


def _zip(archive: zipfile.ZipFile) -> _Files:
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

    return _images_among(found, read)


def _images_among(found: list[str], read: Callable[[str], bytes]) -> _Files:
    names = sorted(name for name in found if PurePosixPath(name).suffix.lower() in SUFFIXES)
    return _Files(names, read, len(found) - len(names))


def _is_hidden(part: str) -> bool:
    return part == "__MACOSX" or (part.startswith(".") and part != "..")


def _refuse_huge(size: int) -> None:
    if size > MAX_ENCODED_BYTES:
        raise ValueError(f"declares {size / 2**20:.0f} MiB, more than {MAX_ENCODED_BYTES / 2**20:.0f}")


def printable(name: str) -> str:
    """Names in archives are foreign text: control characters must not reach a terminal."""
    return name if name.isprintable() else ascii(name)


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, in one line."""
    if isinstance(error, UnidentifiedImageError):  # its own text ends with an address in memory
        return "not an image, or damaged at its beginning"
    return printable((str(error).splitlines() or [""])[0]) or type(error).__name__
