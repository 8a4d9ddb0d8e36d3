"""Scoring of and against statistics files: a mean and a covariance instead of images, as papers publish them; and writing them."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.config_file import find_config
from bench.errors import BenchError, did_you_mean
from bench.features.extract import Progress
from bench.features.reference import Provenance, ReferenceStatistics, with_suffix
from bench.foreign_choices import AnyExtractor, ExtractorChoice, put_on_path
from bench.foreign_features import ForeignFeatures, Watching
from bench.foreign_images import Source, load_set
from bench.foreign_warnings import warnings_of
from bench.metrics.base import Evidence
from bench.metrics.frechet import FrechetTo
from bench.metrics.layers import first_layer
from bench.metrics.moments import Moments
from bench.record import Measurement
from bench.suite import load_config

LAYERS = ("pool", "mid", "final")
"""Where a foreign file does not name its layer: the first of these that the extractor has with the file's width, else the only one of that width."""

NO_FEATURES = ("logits", "spatial")
"""Layers that no statistics file holds under mu and sigma."""

USUAL = ("mid", "final", "pool")
"""What the metric ``frechet`` looks at, in this order."""

MARKS = ({"mu", "sigma"}, {"feats"})


@dataclasses.dataclass(frozen=True)
class StatisticsSet:
    """A statistics file in the place of images. ``len`` is the number of images behind it, 0 where the file does not say."""

    name: str
    path: Path

    def __len__(self) -> int:
        return self.held.n or 0

    @functools.cached_property
    def held(self) -> ReferenceStatistics:
        return ReferenceStatistics.load(self.path)


def is_statistics(source: Any) -> bool:
    """Whether ``source`` is the path of an npz that holds a mean and a covariance, and no images."""
    if isinstance(source, np.ndarray) or not str(source).endswith(".npz"):
        return False
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
    except (OSError, zipfile.BadZipFile, EOFError):
        return False
    return any(marks <= names for marks in MARKS) and "arr_0" not in names


def distance_to_statistics(
    bank: ForeignFeatures, path: Path, split: str = "fake"
) -> tuple[list[Measurement], list[str]]:
    """Fréchet distance of the features ``bank(split, layer)`` to a statistics file, and what its reader must know.

    split: ``fake`` where the file is the reference, ``real`` where it stands for the samples. The layer is the one that the
    file names, else the first usual or the only one of its width. No interval: it needs both sets' features. BenchError where extractor,
    layer or resizing are known to differ.
    """
    first = ReferenceStatistics.load(path)
    layer = _layer(first, bank)
    statistics = ReferenceStatistics.load(path, layer) if first.provenance.extractor is None else first
    unknown = statistics.require(bank.extractor, layer)
    moments = Moments.of(bank(split, layer))
    images = ReferenceStatistics(moments.mean, moments.covariance(), moments.n, statistics.provenance)
    samples, reference = (images, statistics) if split == "fake" else (statistics, images)
    return _distance(samples, reference, bank.name, layer, [unknown] if unknown else [])


def distance_of_statistics(samples: Path, reference: Path) -> tuple[list[Measurement], list[str]]:
    """Fréchet distance of two statistics files. BenchError where they are known to come from different features."""
    fake, real = ReferenceStatistics.load(samples), ReferenceStatistics.load(reference)
    if len(fake.mu) != len(real.mu):
        raise BenchError(
            f"{samples} holds {len(fake.mu)} numbers a row and {reference} holds {len(real.mu)}; "
            "make both with one extractor and layer"
        )
    made = [each.provenance.extractor_version for each in (fake, real)]
    layers = [each.provenance.layer for each in (fake, real) if each.provenance.extractor is not None]
    if None not in made and (made[0] != made[1] or layers[0] != layers[1]):
        raise BenchError(
            f"{samples} was made with [{made[0]}], layer '{layers[0]}', and {reference} with [{made[1]}], layer "
            f"'{layers[1]}'; make both with one extractor and layer"
        )
    silent = [path for path, version in zip((samples, reference), made, strict=True) if version is None]
    warnings = [f"{path} does not say with which weights and resizing it was made" for path in silent]
    known = next((each.provenance for each in (fake, real) if each.provenance.extractor is not None), None)
    return _distance(fake, real, _name(known) if known else None, known.layer if known else None, warnings)


def write_statistics(
    reference: Source,
    output: str | os.PathLike[str],
    extractor: AnyExtractor = "effnetlite0",
    layer: str | None = None,
    split: str | None = None,
    *,
    extractor_options: dict[str, Any] | None = None,
    device: str = "auto",
    strict: bool = False,
    force: bool = False,
    config: Path | None = None,
    on_phase: Callable[[str], None] | None = None,
    on_images: Progress | None = None,
) -> tuple[Path, ReferenceStatistics, list[str]]:
    """Write the mean and covariance of a reference's features -> (file, what it holds, what about the images must be known).

    layer: default the one that the Fréchet distance of a suite looks at. split: of a data set, train or test (the default); of
    anything else a word for the file. force: write over a file that is there. Raises BenchError for unusable input.
    """
    path = with_suffix(output)
    if path.exists() and not force:
        raise BenchError(f"{path} is there already; give --force to write over it, or another name")
    if is_statistics(reference):
        raise BenchError(f"{reference} holds statistics already; give the images that they are to be made of")
    from bench.api import resolve_device

    place = find_config(config)
    settings, device = load_config(place), resolve_device(str(device))
    put_on_path(place, settings, extractor, sources=(reference,))
    choice, watching = ExtractorChoice(extractor, extractor_options), Watching(on_phase, on_images)
    watching.phase("finding the images")
    named = isinstance(reference, str) and not Path(reference).expanduser().exists()
    if named and split not in (None, "test", "train"):
        raise BenchError(f"--split: a data set has no '{split}'; {did_you_mean(str(split), ('test', 'train'))}")
    split = (split or "test") if named else split
    images = load_set(reference, split or "test", settings, strict)
    made_by, said = choice.make(device, images)
    features = ForeignFeatures({"real": images}, made_by, device, watching)
    if layer is not None and layer not in features.layers:
        raise BenchError(f"extractor {features.name} has no layer '{layer}'; it has {', '.join(features.layers)}")
    evidence = Evidence(None, None, features, features.name, features.layers)  # type: ignore[arg-type]  # for the names alone
    layer = first_layer(evidence, layer, USUAL)
    values = features("real", layer)
    made = ReferenceStatistics.of_features(
        values, features.extractor, layer, data=images.name, data_sha256=images.sha256, split=split
    )
    warnings = said + warnings_of(images)
    if len(values) <= values.shape[1]:
        warnings.append(
            f"{len(values)} images are few for {values.shape[1]} dimensions: the covariance is singular, and distances to it are "
            "mostly bias"
        )
    return made.save(path), made, warnings


def _name(provenance: Provenance) -> str | None:
    """The extractor's name, with the resizing of Inception's where a file is older than that being part of it."""
    legacy = re.search(r"resize=(legacy_\w+)", provenance.extractor_version or "")
    return f"inception_{legacy[1]}" if legacy and provenance.extractor == "inception" else provenance.extractor


def _distance(
    samples: ReferenceStatistics,
    reference: ReferenceStatistics,
    extractor: str | None,
    layer: str | None,
    warnings: list[str],
) -> tuple[list[Measurement], list[str]]:
    value = FrechetTo(reference.mu, reference.sigma)(samples.mu, samples.sigma)
    standard = extractor == "inception" and layer == "pool"
    name = "fid" if standard else f"fd_{extractor}_{layer}" if extractor else "fd"
    note = "no interval: a mean and a covariance stand for features"
    measured = Measurement(value, name=name, n=samples.n, direction="lower", note=note)
    if samples.n is not None and samples.n < 1.2 * len(reference.mu):
        warnings.append(
            f"{samples.n} samples are few for {len(reference.mu)} dimensions: the distance is mostly its bias at this n"
        )
    if None not in (samples.n, reference.n) and samples.n != reference.n:
        warnings.append(f"{samples.n} samples against a reference of {reference.n} images")
    return [measured], warnings


def _layer(statistics: ReferenceStatistics, bank: ForeignFeatures) -> str:
    named = statistics.provenance.layer if statistics.provenance.extractor is not None else None
    if named is not None:
        return named
    width = len(statistics.mu)
    fitting = [layer for layer, size in bank.layers.items() if size == width and layer not in NO_FEATURES]
    usual = [layer for layer in LAYERS if layer in fitting]
    found = usual[0] if usual else fitting[0] if len(fitting) == 1 else None  # of several none can be told
    if found is None:
        sizes = ", ".join(f"{layer} {size}" for layer, size in bank.layers.items())
        raise BenchError(
            f"{statistics.provenance.source} holds {width} numbers a row, and {bank.name} gives {sizes}; "
            "take the extractor that the statistics were made with"
        )
    return found
