"""The sets that foreign samples come in: images from folders, zips, arrays and data sets, and what makes two of them comparable."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

import numpy as np

from bench import registry
from bench.data.base import Data
from bench.data.images import ImageReport, load_images
from bench.errors import BenchError
from bench.space import ImageSpace
from bench.suite import Config

Source = str | Path | np.ndarray
Images = np.ndarray | list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Decoded images: uint8 ``(N, H, W, C)``, or a list of ``(H, W, C)`` of mixed sizes; and where they come from.

    report: of files. data: the whole data set that they are a split of, if they are.
    """

    name: str
    images: Images
    report: ImageReport | None = None
    data: Data | None = None

    def __len__(self) -> int:
        return len(self.images)


def load_set(source: Source, split: str, config: Config, strict: bool = False) -> ImageSet:
    """Decode a source. A path that exists wins over a data set of the same name."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[-1] not in (1, 3) or len(source) == 0:
            raise BenchError(
                f"an image array must be uint8 (N, H, W, C) with C 1 or 3, got {source.dtype} {source.shape}"
            )
        return ImageSet("array", source)
    if not isinstance(source, str | Path):
        raise BenchError(
            f"images must be a uint8 numpy array (N, H, W, C), a path or the name of a data set, not {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if path.exists():
        images, report = load_images(path, strict=strict)
        return ImageSet(str(source), images, report)
    if isinstance(source, str) and is_dataset(source, config):
        target, options = config.dataset_source(source)
        data = registry.load(target)(**options).load()
        if not isinstance(data.space, ImageSpace):
            raise BenchError(f"data set '{source}' holds {data.space}, but `bench score` scores images")
        return ImageSet(f"{source} ({split})", getattr(data, split), data=data)
    near = difflib.get_close_matches(str(source), {*config.datasets, *registry.entries("dataset")}, n=1, cutoff=0.5)
    remedy = f"did you mean '{near[0]}'?" if near else "give a folder, zip, npz, npy or a name of `bench list datasets`"
    raise BenchError(f"'{source}' is neither a file, a folder nor a data set; {remedy}")


def is_dataset(name: str, config: Config) -> bool:
    return name in config.datasets or name in registry.entries("dataset")


def take(images: Images, order: np.ndarray) -> Images:
    return images[order] if isinstance(images, np.ndarray) else [images[i] for i in order]


def input_warnings(fake: ImageSet, real: ImageSet) -> list[str]:
    """What about the two sets makes their comparison doubtful."""
    warnings = []
    for images in (fake, real):
        if images.report is not None and images.report.corrupt:
            warnings.append(images.report.summary())
    if len(fake) != len(real):
        warnings.append(
            f"{len(fake)} samples against {len(real)} reference images: distances with other counts are not comparable"
        )
    of_fake, of_real = _lossy(fake), _lossy(real)
    if of_fake is not None and of_real is not None and abs(of_fake - of_real) > 0.5:
        jpeg, other = (fake, real) if of_fake > of_real else (real, fake)
        warnings.append(f"{jpeg.name} holds JPEG and {other.name} does not: the distance also measures JPEG artefacts")
    return warnings


def _lossy(images: ImageSet) -> float | None:
    """Share of JPEG files; None where files are unknown (arrays)."""
    if images.report is None or "array" in images.report.formats:
        return None
    return images.report.formats.get("JPEG", 0) / max(sum(images.report.formats.values()), 1)
