"""Where images come from: listed at once, read and decoded in threads as they are looked at, so that memory stays bounded.

Folders and zips of encoded images, and arrays that are in memory already, are walked in the same way. Archives are read in
place: nothing is extracted to disk, and no member's name is used as a path.
"""

from __future__ import annotations

import abc
import collections
import functools
import itertools
import os
import threading
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
TASK = 16  # images of one task of a thread: one image a task would cost more than decoding a small one

Read = Callable[[int, Transparency, Callable[[int], None]], Picture]
"""Index of an image, what becomes of its transparency, and whom to ask for room for its bytes before it is decoded."""


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
    def opened(self) -> AbstractContextManager[Read]:
        """What gives an image, from several threads; it may raise anything on a damaged one."""

    def __len__(self) -> int:
        return len(self.names)

    def walk(
        self,
        chosen: Sequence[int] | None = None,
        *,
        transparency: Transparency = "white",
        key: Callable[[np.ndarray], bytes] = content_key,
        then: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Generator[Decoded | Unreadable]:
        """The images, or those of the indices ``chosen``, in order; a few threads decode some in advance. Close it where you may
        stop early, also by an error: the threads wait for whoever looks at the images.

        key: gives the digest of an image's pixels. then: applied to the pixels after that, in the threads.
        """
        with self.opened() as read:

            def attempt(index: int, room: Callable[[int], None]) -> Decoded | Unreadable:
                try:
                    picture = read(index, transparency, room)
                except (MemoryError, _Stopped):
                    raise
                except Exception as error:  # decoders fail on damaged files in any way they like
                    return Unreadable(index, reason_of(error))
                pixels = picture.pixels if then is None else then(picture.pixels)
                digest = key(picture.pixels)
                return Decoded(index, pixels, digest, picture.format, picture.pixels.shape, picture.transparent)

            indices = range(len(self)) if chosen is None else chosen
            yield from _in_threads(attempt, indices, changed=then is not None)


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
    def opened(self) -> Iterator[Read]:
        with _open(self.path) as files:
            yield lambda index, transparency, room: decode(files.read(self._files[index]), transparency, room)


class ArrayImages(ImageSource):
    """Images in memory: uint8 ``(N, H, W, C)``."""

    def __init__(self, images: np.ndarray, name: str = "array") -> None:
        self.images, self.name = images, name
        self.names = [f"{name}[{index}]" for index in range(len(images))]

    def place(self, index: int) -> str:
        return self.names[index]

    def opened(self) -> AbstractContextManager[Read]:
        def read(index: int, transparency: Transparency, room: Callable[[int], None]) -> Picture:
            room(self.images[index].nbytes)
            return Picture(self.images[index], "array", False)

        return nullcontext(read)


class _Stopped(Exception):
    """Nobody looks at the images any more."""


class _Room:
    """Bytes of decoded images that wait to be looked at, ``AHEAD_BYTES`` at most; the image looked at next always finds room."""

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        self._held, self._next, self._largest, self._stopped = 0, 0, 0, False
        self._changed = threading.Condition()

    def take(self, place: int, nbytes: int) -> None:
        """Wait until there is room for the image that is the ``place``-th to be looked at: for its ``nbytes`` decoded, or as many
        as one was ``made`` into so far."""
        with self._changed:
            nbytes = max(nbytes, self._largest)
            self._changed.wait_for(lambda: self._stopped or place <= self._next or self._held + nbytes <= AHEAD_BYTES)
            if self._stopped:
                raise _Stopped
            self._taken[place] = nbytes
            self._held += nbytes

    def made(self, nbytes: int) -> None:
        """What an image was made into on the way, which may be more than its header says."""
        with self._changed:
            self._largest = max(self._largest, nbytes)

    def leave(self, place: int) -> None:
        """It is being looked at."""
        with self._changed:
            self._held -= self._taken.pop(place, 0)
            self._next = place + 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _in_threads(
    attempt: Callable[[int, Callable[[int], None]], Decoded | Unreadable], indices: Sequence[int], *, changed: bool
) -> Iterator[Decoded | Unreadable]:
    """``attempt`` of each index, in order, by a few threads that are ahead by at most ``AHEAD`` images and ``AHEAD_BYTES``.

    changed: pixels are something else than what was decoded.
    """
    threads = min(os.cpu_count() or 1, 16)
    room = _Room()
    waiting: collections.deque[Future[Decoded | Unreadable]] = collections.deque()
    todo = iter(enumerate(indices))

    def task(group: list[tuple[int, int]], results: list[Future[Decoded | Unreadable]]) -> None:
        for (place, index), result in zip(group, results, strict=True):
            try:
                found = attempt(index, functools.partial(room.take, place))
                if changed and isinstance(found, Decoded):
                    room.made(found.pixels.nbytes)
                result.set_result(found)
            except BaseException as error:
                result.set_exception(error)

    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for looked_at in itertools.count():
            size = TASK if looked_at else 1  # the first images say how large one is
            while len(waiting) < max(AHEAD if looked_at else 0, threads * size):
                group = list(itertools.islice(todo, size))
                if not group:
                    break
                results: list[Future[Decoded | Unreadable]] = [Future() for _ in group]
                pool.submit(task, group, results)
                waiting += results
            if not waiting:
                return
            found = waiting.popleft().result()
            room.leave(looked_at)
            yield found
    finally:  # also where whoever looks at them stops early
        room.stop()
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
    for parent, folders, files in os.walk(path, followlinks=True, onerror=_refuse_unlisted):
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


def _refuse_unlisted(error: OSError) -> None:
    """Images that nobody may list would be missing without a word."""
    raise BenchError(
        f"cannot list the folder {error.filename}: {error.strerror}; make it readable, or score another folder"
    )


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
