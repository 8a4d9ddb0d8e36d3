"""Feature cache addressed by content: the same images through the same extractor are computed once, ever.

An entry is one uncompressed npz file, named by the SHA-256 of everything that the features depend on. Entries are
written aside and renamed, so several processes may share a folder; the least recently used ones go when the folder
grows over its size.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.extract import Progress, extract

DEFAULT_MAX_BYTES = 4 << 30
_ABANDONED_SECONDS = 3600.0  # a temporary file this old was left by a process that was killed


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/gen-bench/features``, else ``~/.cache/gen-bench/features``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gen-bench" / "features"


def feature_key(images: np.ndarray, extractor: Extractor) -> str:
    """SHA-256 (hex) of the images' bytes, shape and dtype, the extractor's version and layers, and the features' dtype."""
    sha = hashlib.sha256(f"{_identity(extractor)}{images.dtype.str}{images.shape}|".encode())
    sha.update(np.ascontiguousarray(images).data)
    return sha.hexdigest()


def key_of_digests(digests: Sequence[bytes], extractor: Extractor) -> str:
    """The same for images of any shapes, each given by the digest of its pixels and their shape."""
    return hashlib.sha256(f"{_identity(extractor)}digests|".encode() + b"".join(digests)).hexdigest()


def _identity(extractor: Extractor) -> str:
    return f"{extractor.version}|{sorted(extractor.layers.items())}|float32|"


class FeatureCache:
    """A folder of feature files, at most ``max_bytes`` in all."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        if max_bytes < 0:
            raise BenchError(f"the feature cache's size must not be negative, got {max_bytes} bytes; 0 stores nothing")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.max_bytes = max_bytes

    def features(
        self,
        images: np.ndarray,
        extractor: Extractor,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> dict[str, np.ndarray]:
        """``extract(...)``, or what it gave last time. An extractor that cannot be told apart from others is never cached."""
        if extractor.uncacheable is not None:
            return extract(images, extractor, device, batch_size, progress)
        key = feature_key(images, extractor)
        found = self.get(key)
        if found is not None and fits(found, extractor, len(images)):
            return found
        computed = extract(images, extractor, device, batch_size, progress)
        self.put(key, computed)
        return computed

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The entry, or None where there is none or it cannot be read (zip checksums catch damage)."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as entry:
                features = {layer: entry[layer] for layer in entry.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of last use
        return features

    def put(self, key: str, features: dict[str, np.ndarray]) -> None:
        """Store an entry, then delete the least recently used ones until the folder fits.

        A folder that cannot be written (read-only, full) stores nothing: the cache is never the reason a run fails.
        """
        if sum(values.nbytes for values in features.values()) > self.max_bytes:
            return
        path = self._path(key)
        aside = path.with_name(f".{key}.{uuid.uuid4().hex}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                np.savez(file, **features)  # type: ignore[arg-type]  # layer names are no keywords of savez
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            self._shrink(keep=path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _shrink(self, keep: Path) -> None:
        """Delete the oldest entries over ``max_bytes``; another process may delete the same ones."""
        entries = []
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == ".tmp" and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
            elif path.suffix == ".npz":
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size


def fits(features: dict[str, np.ndarray], extractor: Extractor, count: int) -> bool:
    """Whether an entry has the layers, rows and dtype it must have."""
    return features.keys() == extractor.layers.keys() and all(
        values.shape == (count, extractor.layers[layer]) and values.dtype == np.float32
        for layer, values in features.items()
    )
