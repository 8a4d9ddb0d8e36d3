"""What a registered metric is: it says what it needs, and turns evidence into measurements.

The mathematics of each metric is a pure function on arrays in its own file; the class beside it only names what a
suite must provide.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from bench.data.base import Data
from bench.record import Measurement


@dataclasses.dataclass
class Evidence:
    """All that is known about one trained model: what metrics may look at. Features are extracted once, on first use.

    data: the data set; ``data.test`` is the reference ("real").
    samples: the sample set ("fake"), in the format of ``data.train``.
    features: ``features(split, layer) -> float32 (N, d)`` with split in {"real", "fake", "train"} and a layer name of the
        suite's extractor; one pass over the images serves all layers and metrics.
    extractor: name of that extractor, for measurement names (``effnetlite0``), or None for data it cannot read.
    layers: the extractor's layers, name -> width.
    model: the trained model in eval mode, or None (a foreign sample set).
    sample_labels, sample_captions: the class ``(n,)`` or the text that each sample was to show, None where nothing was asked for.
    seed: for whatever a metric draws at random.
    extract: ``extract(images, layer) -> float32 (N, d)``: features of any other uint8 images ``(N, H, W, C)`` (reconstructions,
        interpolations), by the same extractor; None where there is no extractor.
    version: of the extractor: everything about it that changes a number.
    """

    data: Data
    samples: np.ndarray
    features: Callable[[str, str], np.ndarray]
    extractor: str | None = None
    layers: dict[str, int] = dataclasses.field(default_factory=dict)
    model: Any = None
    sample_labels: np.ndarray | None = None
    sample_captions: list[str] | None = None
    seed: int = 0
    device: str = "cpu"
    extract: Callable[[np.ndarray, str], np.ndarray] | None = None
    version: str = ""


class Metric(abc.ABC):
    """A registered metric. Literal class attributes are read by listings; the first docstring line is its description.

    paper: title, year, arXiv id.
    needs: what must be there, of {"features", "images", "logits", "labels", "sample_labels", "sample_captions", "train", "truth", "reconstructs",
        "likelihood", "latent", "style", "codes"}; where it is not, the metric is absent from the row (shown as not applicable), never zero.
    """

    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @abc.abstractmethod
    def measure(self, evidence: Evidence) -> list[Measurement]:
        """Compute; each Measurement carries name, n, unit, direction and interval."""
