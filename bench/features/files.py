"""From images anywhere to features: decoded in threads, resized and run in batches of equal size, in bounded memory.

At most about 0.4 GiB of pixels are held, however many images there are. What has been computed is cached in pieces, by content, so
that a pass that was interrupted goes on where it was.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from bench.data.images import ImageReport, Tally
from bench.data.sources import Decoded, ImageSource
from bench.data.split import content_key
from bench.features.base import Extractor
from bench.features.cache import FeatureCache, fits, key_of_digests
from bench.features.extract import Progress, extract

CHUNK, CHUNK_BYTES = 512, 1 << 27  # images of one piece: those of one size in it make batches


@dataclasses.dataclass(frozen=True)
class FileFeatures:
    """features: layer -> float32 ``(N, width)``, row i of the image ``report.names[i]``; none without an extractor."""

    features: dict[str, np.ndarray]
    report: ImageReport


def extract_files(
    images: ImageSource,
    extractor: Extractor | None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
    *,
    chosen: Sequence[int] | None = None,
    strict: bool = False,
    cache: FeatureCache | None = None,
    key: Callable[[np.ndarray], bytes] = content_key,
    where: str = "",
) -> FileFeatures:
    """Features of images of any sizes and modes, and what was found about them; transparency is dropped.

    extractor: None only looks at the images. chosen: indices of those that are read; default all. strict: the first image that
    cannot be decoded raises BenchError; otherwise it is left out and named in the report. key: gives the digest of an image's pixels.
    progress: called with (images done, images in all). where: what the report calls the place.
    """
    tally = Tally(images, strict, where)
    total = len(images if chosen is None else chosen)
    say = progress or (lambda done, total: None)
    done = 0
    whole: dict[str, np.ndarray] = {}
    if extractor is not None:
        extractor = extractor.to(torch.device(device))
        whole = {layer: np.empty((total, width), np.float32) for layer, width in extractor.layers.items()}
    with contextlib.closing(images.walk(chosen, transparency="dropped", key=key)) as walked:
        for chunk in _chunks(tally.readable(walked)):
            if extractor is not None:

                def so_far(now: int, done: int = done) -> None:
                    say(min(done + tally.corrupt + now, total), total)

                found = _cached(chunk, extractor, device, batch_size, cache, so_far)
                for layer, values in found.items():
                    whole[layer][done : done + len(chunk)] = values
            done += len(chunk)
            say(min(done + tally.corrupt, total), total)
    return FileFeatures({layer: values[:done] for layer, values in whole.items()}, tally.report())


def _chunks(images: Iterable[Decoded]) -> Iterator[list[Decoded]]:
    chunk: list[Decoded] = []
    held = 0
    for image in images:
        chunk.append(image)
        held += image.pixels.nbytes
        if len(chunk) == CHUNK or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _cached(
    chunk: list[Decoded],
    extractor: Extractor,
    device: torch.device | str,
    batch_size: int,
    cache: FeatureCache | None,
    so_far: Callable[[int], None],
) -> dict[str, np.ndarray]:
    if cache is None or extractor.uncacheable is not None:
        return _features(chunk, extractor, device, batch_size, so_far)
    key = key_of_digests([image.digest for image in chunk], extractor)
    stored = cache.get(key)
    if stored is not None and fits(stored, extractor, len(chunk)):
        return stored
    computed = _features(chunk, extractor, device, batch_size, so_far)
    cache.put(key, computed)
    return computed


def _features(
    chunk: list[Decoded],
    extractor: Extractor,
    device: torch.device | str,
    batch_size: int,
    so_far: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Images of each shape in one go; the extractor resizes every one to its own input size."""
    whole = {layer: np.empty((len(chunk), width), np.float32) for layer, width in extractor.layers.items()}
    shapes: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
    for place, image in enumerate(chunk):
        shapes[image.pixels.shape].append(place)
    done = 0
    for places in shapes.values():

        def batch_done(now: int, different: int, done: int = done, places: list[int] = places) -> None:
            so_far(done + len(places) * now // different)

        stacked = np.stack([chunk[place].pixels for place in places])
        for layer, values in extract(stacked, extractor, device, batch_size, batch_done).items():
            whole[layer][places] = values
        done += len(places)
    return whole
