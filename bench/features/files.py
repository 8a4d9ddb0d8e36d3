"""From image files to features: decoded in threads, resized and run in batches of equal size."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.extract import Progress

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_WAITING_BYTES = 1 << 28  # decoded images held back until their batch is full


@dataclasses.dataclass(frozen=True)
class FileFeatures:
    """features: layer -> float32 ``(N, width)``, row i of file ``paths[i]``. unreadable: files left out, and why."""

    features: dict[str, np.ndarray]
    paths: list[Path]
    unreadable: dict[Path, str]


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """All image files below a folder, by suffix, sorted by path; BenchError where there is none."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise BenchError(f"{folder} is not a folder; give a folder of images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise BenchError(f"there are no images below {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def extract_files(
    paths: Sequence[str | os.PathLike[str]],
    extractor: Extractor,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
    strict: bool = False,
) -> FileFeatures:
    """Features of image files of any sizes and modes, each read as RGB.

    strict: the first file that cannot be decoded raises BenchError; otherwise it is left out and named in the result.
    progress: called with (files done, files in all).
    """
    files = [Path(path) for path in paths]
    if not files:
        raise BenchError(f"extract_files got no files for extractor {extractor.name}; give at least one")
    extractor = extractor.to(torch.device(device))
    rows: dict[str, list[tuple[list[int], np.ndarray]]] = {layer: [] for layer in extractor.layers}
    unreadable: dict[Path, str] = {}
    done = 0
    for numbers, images in _batches(_decoded(files, batch_size, unreadable, strict), batch_size):
        for layer, values in extractor(torch.from_numpy(images).to(device)).items():
            rows[layer].append((numbers, values.cpu().numpy()))
        done += len(numbers)
        if progress is not None:
            progress(done + len(unreadable), len(files))
    if not done:
        name, reason = next(iter(unreadable.items()))
        raise BenchError(f"none of {len(files)} image files can be read; the first: {name}: {reason}")
    features = {layer: _in_order(parts) for layer, parts in rows.items()}
    return FileFeatures(features, [path for path in files if path not in unreadable], unreadable)


def decode(path: Path) -> np.ndarray:
    """An image file as uint8 ``(H, W, 3)``: alpha is dropped, 16-bit grey scaled down to 8, else as PIL converts to RGB.

    Raises OSError, ValueError or SyntaxError (PIL's) on what is no image, and on more pixels than PIL thinks safe.
    """
    with Image.open(path) as image:
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {Image.MAX_IMAGE_PIXELS}")
        if image.mode.startswith("I"):  # PIL would clip 16 bits to 255: nearly all white
            grey = np.asarray(image, dtype=np.float64) / 257
            return np.repeat(np.rint(grey).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.array(image.convert("RGB"))


def _decoded(
    files: Sequence[Path], ahead: int, unreadable: dict[Path, str], strict: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, image) in order; a few threads decode up to ``ahead`` files in advance."""
    waiting: collections.deque[tuple[int, Future[np.ndarray]]] = collections.deque()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for number, path in enumerate(files):
            waiting.append((number, pool.submit(decode, path)))
            if len(waiting) > ahead:
                yield from _next(waiting, files, unreadable, strict)
        while waiting:
            yield from _next(waiting, files, unreadable, strict)


def _next(
    waiting: collections.deque[tuple[int, Future[np.ndarray]]],
    files: Sequence[Path],
    unreadable: dict[Path, str],
    strict: bool,
) -> Iterator[tuple[int, np.ndarray]]:
    number, image = waiting.popleft()
    try:
        yield number, image.result()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if strict:
            for _, pending in waiting:
                pending.cancel()
            raise BenchError(f"cannot read the image {files[number]}: {reason}; replace or remove it") from None
        unreadable[files[number]] = reason


def _batches(images: Iterable[tuple[int, np.ndarray]], batch_size: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of one size each, with their numbers; small groups are given out early when much is waiting."""
    groups: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = collections.defaultdict(list)
    held = 0
    for number, image in images:
        groups[image.shape].append((number, image))
        held += image.nbytes
        shape = image.shape if len(groups[image.shape]) == batch_size else None
        if shape is None and held > _WAITING_BYTES:
            shape = max(groups, key=lambda key: len(groups[key]) * np.prod(key))
        if shape is not None:
            group = groups.pop(shape)
            held -= sum(member.nbytes for _, member in group)
            yield [number for number, _ in group], np.stack([member for _, member in group])
    for group in groups.values():
        yield [number for number, _ in group], np.stack([member for _, member in group])


def _in_order(parts: list[tuple[list[int], np.ndarray]]) -> np.ndarray:
    """Rows of all batches by file number."""
    numbers = np.concatenate([np.asarray(numbers) for numbers, _ in parts])
    return np.concatenate([values for _, values in parts])[np.argsort(numbers)]
