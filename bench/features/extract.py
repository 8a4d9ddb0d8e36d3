"""One pass over a set of images for all layers of an extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from bench.errors import BenchError
from bench.features.base import Extractor

Progress = Callable[[int, int], None]  # (images done, images to do)


def extract(
    images: np.ndarray,
    extractor: Extractor,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Features of every image.

    images: uint8 ``(N, H, W, C)`` with C 1 or 3. progress: called after each batch with (done, total), counted in
    different images: equal images are computed once.
    Returns layer name -> float32 ``(N, width)``; row i belongs to image i and does not depend on ``batch_size`` beyond
    rounding (about 1e-6 relative: convolutions of other batch sizes sum in another order).
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise BenchError(
            f"extract reads uint8 images of shape (N, H, W, C), got {images.dtype} {images.shape}; convert them first"
        )
    if len(images) == 0:
        raise BenchError(f"extract got no images for extractor {extractor.name}; give at least one")
    if batch_size < 1:
        raise BenchError(f"batch_size must be at least 1, got {batch_size}")
    extractor = extractor.to(torch.device(device))
    first, rows = unique_images(images)
    features = {layer: np.empty((len(first), width), np.float32) for layer, width in extractor.layers.items()}
    for start in range(0, len(first), batch_size):
        chosen = first[start : start + batch_size]
        batch = torch.from_numpy(np.ascontiguousarray(images[chosen])).to(device)
        for layer, values in extractor(batch).items():
            if values.shape != (len(chosen), extractor.layers[layer]):
                raise BenchError(
                    f"extractor {extractor.name} promises layer '{layer}' of width {extractor.layers[layer]} but gave "
                    f"{tuple(values.shape)} for {len(chosen)} images; correct its layers"
                )
            features[layer][start : start + len(chosen)] = values.cpu().numpy()
        if progress is not None:
            progress(start + len(chosen), len(first))
    if len(first) == len(images):
        return features
    return {layer: values[rows] for layer, values in features.items()}


def unique_images(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, rows): the index of the first copy of each different image, in order, and for each image its place there.

    ``images[first][rows]`` equals ``images``. Copies are found by the digest of their bytes.
    """
    place: dict[bytes, int] = {}
    first: list[int] = []
    rows = np.empty(len(images), np.int64)
    for i, image in enumerate(images):
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        rows[i] = place.setdefault(digest, len(first))
        if rows[i] == len(first):
            first.append(i)
    return np.asarray(first, np.int64), rows
