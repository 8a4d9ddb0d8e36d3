"""Scoring against reference statistics: a mean and a covariance instead of images, as papers publish them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.features.reference import ReferenceStatistics
from bench.metrics.frechet import FrechetTo
from bench.metrics.streaming import Moments
from bench.record import Measurement
from bench.scoring import FeatureBank

LAYERS = ("pool", "mid", "final")
"""Where a foreign file does not name its layer: the first of these that the extractor has with the file's width."""

MARKS = ({"mu", "sigma"}, {"feats"})


@dataclasses.dataclass(frozen=True)
class StatisticsSet:
    """A statistics file in the place of images. ``len`` is the number of images behind it, 0 where the file does not say."""

    name: str
    path: Path

    def __len__(self) -> int:
        return ReferenceStatistics.load(self.path).n or 0


def is_statistics(source: Any) -> bool:
    """Whether ``source`` is the path of an npz that holds a mean and a covariance, and no images."""
    if isinstance(source, np.ndarray) or not str(source).endswith(".npz"):
        return False
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
    except (OSError, ValueError, EOFError):
        return False
    return any(marks <= names for marks in MARKS) and "arr_0" not in names


def distance_to_statistics(bank: FeatureBank, path: Path) -> tuple[list[Measurement], list[str]]:
    """Fréchet distance of the features ``bank("fake", layer)`` to a statistics file, and what its reader must know.

    The layer is the one that the file names, else the first usual one of its width. No interval: it needs the reference's
    features. BenchError where extractor, layer or resizing are known to differ.
    """
    first = ReferenceStatistics.load(path)
    layer = _layer(first, bank)
    statistics = ReferenceStatistics.load(path, layer) if first.provenance.extractor is None else first
    unknown = statistics.require(bank.extractor, layer)
    moments = Moments.of(bank("fake", layer))
    value = FrechetTo(statistics.mu, statistics.sigma)(moments.mean, moments.covariance())
    standard = bank.name == "inception" and layer == "pool"
    note = "no interval: the reference is a mean and a covariance, without its features"
    measured = Measurement(
        value, name="fid" if standard else f"fd_{bank.name}_{layer}", n=moments.n, direction="lower", note=note
    )
    warnings = [unknown] if unknown else []
    if moments.n < 1.2 * len(statistics.mu):
        warnings.append(
            f"{moments.n} samples are few for {len(statistics.mu)} dimensions: the distance is mostly its bias at this n"
        )
    if statistics.n is not None and statistics.n != moments.n:
        warnings.append(f"{moments.n} samples against statistics of {statistics.n} images")
    return [measured], warnings


def _layer(statistics: ReferenceStatistics, bank: FeatureBank) -> str:
    named = statistics.provenance.layer if statistics.provenance.extractor is not None else None
    if named is not None:
        return named
    width = len(statistics.mu)
    found = next((layer for layer in LAYERS if bank.layers.get(layer) == width), None)
    if found is None:
        sizes = ", ".join(f"{layer} {size}" for layer, size in bank.layers.items())
        raise BenchError(
            f"{statistics.provenance.source} holds {width} numbers a row, and {bank.name} gives {sizes}; "
            "take the extractor that the statistics were made with"
        )
    return found
