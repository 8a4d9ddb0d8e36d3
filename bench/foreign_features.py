"""Features and pixels of foreign sets as metrics ask for them: each set runs through the extractor once, pixels are decoded on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.data.base import Data
from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.cache import FeatureCache
from bench.features.extract import Progress
from bench.foreign_images import Images, ImageSet, take
from bench.metrics.base import Evidence
from bench.scoring import batch_size_on
from bench.space import ImageSpace

ROLES = {"fake": "samples", "real": "reference", "train": "training images"}


@dataclasses.dataclass
class Watching:
    """Who is told what goes on: phases by name, and how many images of the present one are done."""

    on_phase: Callable[[str], None] | None = None
    on_images: Progress | None = None

    def phase(self, text: str) -> None:
        if self.on_phase is not None:
            self.on_phase(text)


class ForeignFeatures:
    """``features(split, layer)`` of the sets fake, real and train, each extracted whole on first use and kept."""

    def __init__(self, sets: Mapping[str, ImageSet], extractor: Extractor, device: str, watching: Watching) -> None:
        self.sets, self.extractor, self.device, self.watching = sets, extractor, device, watching
        self._cache = FeatureCache()
        self._found: dict[str, dict[str, np.ndarray]] = {}

    @property
    def name(self) -> str:
        return self.extractor.name

    @property
    def layers(self) -> dict[str, int]:
        return self.extractor.layers

    def __call__(self, split: str, layer: str) -> np.ndarray:
        return self.read(split)[self._known(layer)]

    def read(self, split: str) -> dict[str, np.ndarray]:
        """All layers of one set; afterwards its report is there."""
        if split not in self._found:
            self._found[split] = self._run(split)
        return self._found[split]

    def look(self, split: str) -> None:
        """See what the images of a set are, without the extractor, where that is not known yet."""
        if not self.sets[split].known:
            self.watching.phase(f"reading the {ROLES[split]}")
            self.sets[split].features(None, progress=self.watching.on_images)

    def part(self, split: str, rows: np.ndarray | None) -> Callable[[str], np.ndarray]:
        """``part(split, rows)(layer)``: features of some images of a set; only these are computed unless all are there."""
        mine: dict[str, np.ndarray] = {}

        def layer_of(layer: str) -> np.ndarray:
            if rows is None or split in self._found:
                whole = self(split, layer)
                return whole if rows is None else whole[rows]
            if not mine:
                mine.update(self._run(split, rows))
            return mine[self._known(layer)]

        return layer_of

    def _run(self, split: str, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
        images = self.sets[split]
        self.watching.phase(f"features of the {ROLES[split]}")
        size = batch_size_on(self.device)
        return images.features(self.extractor, self.device, size, self._cache, self.watching.on_images, rows)

    def _known(self, layer: str) -> str:
        if layer not in self.layers:
            raise BenchError(f"the extractor '{self.name}' has no layer '{layer}'; it has {', '.join(self.layers)}")
        return layer


@dataclasses.dataclass(frozen=True)
class Choice:
    """Some images of a set: ``rows`` of it, or all."""

    images: ImageSet
    split: str
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)

    @property
    def pixels(self) -> Images:
        return self.images.pixels if self.rows is None else take(self.images.pixels, self.rows)

    def known(self, what: str) -> Any:
        """``labels`` or ``factors`` of these images, where they are of a data set that knows them; else None."""
        whole = None if self.images.data is None else getattr(self.images.data, f"{self.images.split}_{what}")
        if whole is None or self.rows is None:
            return whole
        return (
            {name: values[self.rows] for name, values in whole.items()} if isinstance(whole, dict) else whole[self.rows]
        )


class ForeignData(Data):
    """The reference as a data set whose images are decoded when a metric looks at them, with all that is known of a named one."""

    def __init__(self, space: ImageSpace | None, sets: Mapping[str, Choice]) -> None:
        """sets: ``test``, and ``train``."""
        train, test = sets["train"], sets["test"]
        data = test.images.data
        known: dict[str, Any] = {"test_labels": test.known("labels"), "test_factors": test.known("factors")}
        if data is not None:
            known |= {"truth": data.truth, "classes": data.classes}
            if train.images.data is not None and train.images.data.name == data.name:
                known |= {"train_labels": train.known("labels"), "train_factors": train.known("factors")}
        super().__init__("reference" if data is None else data.name, space, None, None, **known)  # type: ignore[arg-type]
        object.__setattr__(self, "_sets", dict(sets))
        object.__delattr__(self, "train")
        object.__delattr__(self, "test")

    def __getattr__(self, name: str) -> Any:  # asked for what is not there
        if name in self.__dict__.get("_sets", {}):
            object.__setattr__(self, name, self._sets[name].pixels)
            return self.__dict__[name]
        raise AttributeError(name)


class ForeignEvidence(Evidence):
    """Evidence whose samples are decoded when a metric looks at them."""

    def __init__(self, samples: Choice, **known: Any) -> None:
        super().__init__(samples=None, **known)  # type: ignore[arg-type]
        self._chosen = samples
        del self.samples

    def __getattr__(self, name: str) -> Any:  # asked for what is not there
        if name == "samples":
            self.samples = self._chosen.pixels  # type: ignore[assignment]
            return self.samples
        raise AttributeError(name)
