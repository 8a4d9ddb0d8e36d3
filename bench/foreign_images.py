"""The sets that foreign samples come in: images from folders, zips, arrays and data sets, and what makes two of them comparable."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
from pathlib import Path

import numpy as np
from torch import Tensor

from bench import registry
from bench.data.arrays import conversion, image_shape
from bench.data.base import Data
from bench.data.decode import pack
from bench.data.images import ImageReport, load_images, open_images
from bench.data.sources import ArrayImages, Decoded, EncodedImages
from bench.data.split import content_key
from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.cache import FeatureCache
from bench.features.extract import Progress
from bench.features.files import extract_files
from bench.space import ImageSpace
from bench.suite import Config

Source = str | Path | np.ndarray | Tensor
Images = np.ndarray | list[np.ndarray]


class ImageSet:
    """Images of one source, which pass through memory as often as somebody looks at them: a folder or zip is never held whole
    unless a metric asks for its ``pixels``.

    name: as the user called it. data: the whole data set that they are a split of, if they are; split: which one.
    """

    def __init__(
        self,
        name: str,
        source: EncodedImages | ArrayImages,
        strict: bool = False,
        data: Data | None = None,
        split: str = "test",
    ) -> None:
        self.name, self.data, self.split = name, data, split
        self._source, self._strict = source, strict
        self._report: ImageReport | None = None
        self._pixels: Images | None = None

    def __len__(self) -> int:
        """Images that can be read."""
        return len(self.report.names)

    @property
    def report(self) -> ImageReport:
        """What they are; decodes each of them once where that has not been done. Digests are ``colour_key``."""
        if self._report is None:
            self.features(None)
        assert self._report is not None
        return self._report

    @property
    def known(self) -> bool:
        """Whether the report is there already."""
        return self._report is not None

    @property
    def listed(self) -> int:
        """Images by name; some may turn out to be unreadable."""
        return len(self._source)

    def features(
        self,
        extractor: Extractor | None,
        device: str = "cpu",
        batch_size: int = 64,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        rows: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Layer -> float32 ``(N, width)`` of all readable images, or of the ``rows`` among them. Without an extractor: nothing, but
        the report is there afterwards."""
        chosen = None
        if rows is not None:
            readable = self._readable
            chosen = [readable[row] for row in rows]
        found = extract_files(
            self._source,
            extractor,
            device,
            batch_size,
            progress,
            chosen=chosen,
            strict=self._strict,
            cache=cache,
            key=colour_key,
            where=self.name,
        )
        if rows is None:
            self._report = found.report
        return found.features

    @property
    def _readable(self) -> list[int]:
        """Where in the source each readable image is."""
        if not self.report.corrupt:
            return list(range(len(self._source)))
        corrupt = {name for name, _ in self.report.corrupt}
        return [index for index, name in enumerate(self._source.names) if name not in corrupt]

    def first(self, count: int) -> Images:
        """The pixels of the first ``count`` images, without those that cannot be read."""
        with contextlib.closing(self._source.walk(transparency="dropped")) as walked:
            found = list(itertools.islice((image.pixels for image in walked if isinstance(image, Decoded)), count))
        return pack(found) if found else self.pixels  # which says that none can be read

    def some(self, count: int) -> Images:
        """All pixels where they are in memory, else those of the first ``count`` images."""
        return self._source.images if isinstance(self._source, ArrayImages) else self.first(count)

    @property
    def pixels(self) -> Images:
        """All images in memory: uint8 ``(N, H, W, C)``, or a list of ``(H, W, C)`` of mixed sizes. Kept once asked for."""
        if isinstance(self._source, ArrayImages):
            return self._source.images
        if self._pixels is None:
            self._pixels, _ = load_images(self._source.path, strict=self._strict, transparency="dropped")
        return self._pixels

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """``(H, W, C)`` of each image of ``pixels``; None where sizes differ."""
        heights, widths, channels = zip(*self.report.shapes, strict=True)
        one_size = len(set(heights)) == len(set(widths)) == 1
        return (heights[0], widths[0], max(channels)) if one_size else None

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the digests of all images in order: the same for a folder, zip or array of equal images."""
        return hashlib.sha256(b"".join(self.report.digests)).hexdigest()


def colour_key(image: np.ndarray) -> bytes:
    """Digest of ``(H, W, C)`` pixels in three channels: a grey image saved in colour is the same image."""
    height, width, channels = image.shape
    return content_key(np.broadcast_to(image, (height, width, max(3, channels))))


def load_set(source: Source, split: str, config: Config, strict: bool = False) -> ImageSet:
    """Find a source; folders and zips are decoded later. A path that exists wins over a data set of the same name."""
    if isinstance(source, np.ndarray | Tensor):
        return ImageSet("array", ArrayImages(_array(source)))
    if not isinstance(source, str | Path):
        raise BenchError(
            f"images must be a uint8 array or tensor (N, H, W, C), a path or the name of a data set, not {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if path.exists():
        return ImageSet(str(source), open_images(path), strict)
    if isinstance(source, str) and is_dataset(source, config):
        target, options = config.dataset_source(source)
        data = registry.load(target)(**options).load()
        if not isinstance(data.space, ImageSpace):
            raise BenchError(f"data set '{source}' holds {data.space}, but `bench score` scores images")
        return ImageSet(f"{source} ({split})", ArrayImages(getattr(data, split)), data=data, split=split)
    near = difflib.get_close_matches(str(source), {*config.datasets, *registry.entries("dataset")}, n=1, cutoff=0.5)
    remedy = f"did you mean '{near[0]}'?" if near else "give a folder, zip, npz, npy or a name of `bench list datasets`"
    raise BenchError(f"'{source}' is neither a file, a folder nor a data set; {remedy}")


def _array(images: np.ndarray | Tensor) -> np.ndarray:
    """uint8 ``(N, H, W, C)`` of an array or a tensor in hand; BenchError says what would make images of anything else."""
    if isinstance(images, np.ndarray):
        return _checked(images, "an image array", images.dtype)
    held = images.detach().cpu()
    try:
        return _checked(
            (held.float() if held.is_floating_point() else held).numpy(), "a tensor of images", images.dtype
        )
    except BenchError as error:  # the same in torch's words
        said = str(error).replace(".astype(np.uint8)", ".to(torch.uint8)")
        raise BenchError(said.replace("np.moveaxis(x, 1, -1)", "x.permute(0, 2, 3, 1)")) from None


def _checked(images: np.ndarray, what: str, kind: object) -> np.ndarray:
    """kind: the type of number that the caller gave."""
    if images.dtype != np.uint8:
        raise BenchError(f"{what} must be uint8 (N, H, W, C), got {kind} {images.shape}: {conversion(images)}")
    return images.reshape(image_shape(images.shape, what))


def is_dataset(name: str, config: Config) -> bool:
    return name in config.datasets or name in registry.entries("dataset")


def take(images: Images, order: np.ndarray) -> Images:
    return images[order] if isinstance(images, np.ndarray) else [images[i] for i in order]
