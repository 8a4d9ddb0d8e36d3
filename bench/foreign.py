"""Score any sample set against any reference: images from folders, zips, arrays, data sets, or stored statistics.

The same metrics, features and intervals as in suites, for samples that some other system made. Images stream through the
extractor; only metrics that look at pixels hold a whole set in memory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.config_file import find_config
from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.extract import Progress
from bench.features.fast import SpeedCheck, speed_up
from bench.features.network import NetworkExtractor
from bench.foreign_choices import AnyExtractor, AnyMetric, ExtractorChoice, metric_parts, put_on_path
from bench.foreign_features import Choice, ForeignData, ForeignEvidence, ForeignFeatures, Watching
from bench.foreign_floor import floor_sets, held_against
from bench.foreign_images import ImageSet, Source, load_set
from bench.foreign_statistics import StatisticsSet, distance_of_statistics, distance_to_statistics, is_statistics
from bench.foreign_warnings import input_warnings, warnings_of, warnings_of_values
from bench.plan import Part
from bench.record import Measurement
from bench.scoring import make_metric, missing, said_by
from bench.space import ImageSpace
from bench.suite import load_config

if TYPE_CHECKING:
    import pandas as pd

SPEEDS = ("exact", "bfloat16", "compiled", "bfloat16+compiled")
CHECKED = 300  # images of each side on which a faster extractor is checked
DEFAULT_METRICS = ("frechet", "kernel", "prdc", "inception-score", "vendi")
NEEDED = {
    "images": "images of one size and as many channels in all sets",
    "train": "the training images, which --train gives (train=... in Python)",
    "features": "an extractor with features",
    "logits": "an extractor that classifies (it has no layer 'logits')",
    "labels": "the labels of a named data set as the reference",
    "truth": "a named data set with a known truth as the reference, such as shapes",
    "factors": "a named data set with known factors as the reference, such as shapes",
    "sample_labels": "the class that each sample was to have, which only suites know",
    "sample_captions": "the text that each sample was to show, which only suites know",
    **dict.fromkeys(("reconstructs", "likelihood", "latent", "codes", "style"), "a model, which only suites have"),
}
"""What a metric may lack here, in words."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What scoring found.

    measurements: of the samples against the reference. floor: of real images against the reference, by the same protocol.
    warnings: sentences for whoever reads the numbers. train: what the model learned from, where that is known. extractor: what
    looked at the images; None for two statistics files. seed, device: of what is drawn at random, and where it was computed.
    """

    samples: ImageSet | StatisticsSet
    reference: ImageSet | StatisticsSet
    measurements: list[Measurement]
    floor: dict[str, Measurement]
    floor_means: str
    warnings: list[str]
    train: ImageSet | None = None
    extractor: Extractor | None = None
    seed: int = 0
    device: str = "cpu"

    def to_frame(self) -> pd.DataFrame:
        """One row a measurement: metric, value, low, high, unit, n, direction, interval, note, floor, floor_low, floor_high, floor_n."""
        import pandas as pd

        rows = []
        for measurement in self.measurements:
            fields = measurement.to_dict()
            floor = self.floor.get(measurement.name)
            bounds = (None,) * 4 if floor is None else (float(floor), floor.low, floor.high, floor.n)
            of_floor = dict(zip(("floor", "floor_low", "floor_high", "floor_n"), bounds, strict=True))
            rows.append({"metric": fields.pop("name"), **fields, **of_floor})
        frame = pd.DataFrame(rows)
        frame.attrs["warnings"] = list(self.warnings)
        return frame


def score(
    samples: Source,
    reference: Source,
    metrics: AnyMetric | Sequence[AnyMetric] = DEFAULT_METRICS,
    extractor: AnyExtractor = "effnetlite0",
    train: Source | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Score ``samples`` against ``reference`` -> frame with one row a measurement (see Scores.to_frame).

    samples, reference, train: uint8 array or tensor ``(N, H, W, C)`` or ``(N, H, W)``, or a folder (recursive), zip, npz, npy file, or the
    name of a data set (its test split; for ``train`` its training split); ``samples`` and ``reference`` may also be statistics files,
    which give the raw Fréchet distance only. metrics: names, or dicts of a name and options, ``{"name": "prdc", "k": 3}``.
    extractor: a name, an ``Extractor``, or a torch module (see ``ExtractorChoice``). train: what the model learned from; enables memorisation metrics
    and the train-vs-reference floor. Further options: see ``score_images``. Raises BenchError for unusable input.
    """
    return score_images(samples, reference, metrics, extractor, train, **options).to_frame()


def score_images(
    samples: Source,
    reference: Source,
    metrics: AnyMetric | Sequence[AnyMetric] = DEFAULT_METRICS,
    extractor: AnyExtractor = "effnetlite0",
    train: Source | None = None,
    *,
    extractor_options: dict[str, Any] | None = None,
    device: str = "auto",
    strict: bool = False,
    seed: int = 0,
    speed: str = "exact",
    config: Path | None = None,
    on_phase: Callable[[str], None] | None = None,
    on_images: Progress | None = None,
) -> Scores:
    """As ``score``, with everything that was found. strict: a corrupt image stops instead of being left out and named.
    on_phase is told what is done next; on_images how many images of that are done, of how many.

    speed: "bfloat16", "compiled" or "bfloat16+compiled" runs the extractor's network so, if a check on up to 300 images of each
    side shows that the Fréchet distance keeps its value to 0.1 %; the first warning says what it showed. "exact": float32.
    """
    from bench.api import resolve_device

    path = find_config(config)
    settings, device = load_config(path), resolve_device(str(device))
    put_on_path(path, settings, extractor, metrics, (samples, reference, train))
    choice, parts = ExtractorChoice(extractor, extractor_options), metric_parts(metrics)
    quicker, watching = Quicker(speed), Watching(on_phase, on_images)
    watching.phase("finding the images")
    fake, real = (
        StatisticsSet(str(source), Path(str(source)).expanduser())
        if is_statistics(source)
        else load_set(source, "test", settings, strict)
        for source in (samples, reference)
    )
    if isinstance(fake, StatisticsSet) or isinstance(real, StatisticsSet):
        if speed != "exact":
            raise BenchError("--speed is checked on images of both sides, and a statistics file has none; leave it out")
        found = _of_statistics(fake, real, choice, parts, device, watching)
        if train is not None:
            found.warnings.append(
                "the training images were not looked at: a statistics file cannot be held against them"
            )
        return found
    if train is None and real.data is not None:  # a data set knows what a model may have learned from
        train = reference
    known = None if train is None else load_set(train, "train", settings, strict)

    sets = {"fake": fake, "real": real} | ({} if known is None else {"train": known})
    made, of_extractor = choice.make(device, real)
    features = ForeignFeatures(sets, made, device, watching)
    if speed != "exact":
        watching.phase(f"checking the extractor in {speed}")
    features.extractor = quicker(features.extractor, fake, real)
    _read_all(features, parts)
    warnings = of_extractor + input_warnings(fake, real, known)
    whole = {"fake": Choice(fake, "fake"), "real": Choice(real, "real")}
    of_train = None if known is None else Choice(known, "train")
    measure = functools.partial(_measure, parts, features, seed=seed, watching=watching)
    reasons: list[str] = []
    measurements = measure(whole, of_train, reasons)
    if not measurements:
        said = "; ".join(reasons).replace(" left out: ", ": ")
        raise BenchError(f"nothing could be measured: {said or 'no metric found anything to look at in these images'}")
    taken, means = floor_sets(whole, known, seed)
    floor, off = held_against(measure(taken, of_train, [], of_floor=True), taken, whole)
    if quicker.check is not None:
        warnings.insert(0, f"extractor in {speed}: {quicker.check}")
    if features.extractor.uncacheable is not None:
        warnings.append(f"features are not cached: {features.extractor.uncacheable}")
    warnings += reasons + off + warnings_of_values(measurements)
    return Scores(fake, real, measurements, floor, means, warnings, known, features.extractor, seed, device)


def _read_all(features: ForeignFeatures, parts: list[Part]) -> None:
    """One pass over each set, through the extractor where a metric will ask for its features."""
    needs = frozenset[str]().union(*(make_metric(part).needs for part in parts))
    of_features = bool(needs & {"features", "logits"})
    for split in features.sets:
        if of_features and (split != "train" or "train" in needs):
            features.read(split)
        else:
            features.look(split)


def _of_statistics(
    fake: ImageSet | StatisticsSet,
    real: ImageSet | StatisticsSet,
    extractor: ExtractorChoice,
    parts: list[Part],
    device: str,
    watching: Watching,
) -> Scores:
    """The Fréchet distance, where a mean and a covariance stand for one set or both."""
    used: Extractor | None = None
    if isinstance(fake, StatisticsSet) and isinstance(real, StatisticsSet):
        measurements, warnings = distance_of_statistics(fake.path, real.path)
    else:
        images, statistics, split = (real, fake, "real") if isinstance(fake, StatisticsSet) else (fake, real, "fake")
        assert isinstance(images, ImageSet)
        assert isinstance(statistics, StatisticsSet)
        used, said = extractor.make(device, images)
        features = ForeignFeatures({split: images}, used, device, watching)
        measurements, warnings = distance_to_statistics(features, statistics.path, split)
        warnings = warnings_of(images) + said + warnings
    left_out = [part.name for part in parts if part.name != "frechet"]
    if left_out:
        warnings.append(
            f"{', '.join(left_out)} left out: a mean and a covariance suffice for the Fréchet distance only"
        )
    none = "none: statistics alone cannot be split"
    return Scores(fake, real, measurements, {}, none, warnings, extractor=used, device=device)


class Quicker:
    """Swaps an extractor for a faster one, once it has been shown not to change the result on the images at hand."""

    def __init__(self, speed: str) -> None:
        if speed not in SPEEDS:
            raise BenchError(f"unknown speed '{speed}'; choose {', '.join(SPEEDS[:-1])} or {SPEEDS[-1]}")
        self._ways = set(speed.split("+"))
        self.check: SpeedCheck | None = None

    def __call__(self, extractor: Extractor, fake: ImageSet, real: ImageSet) -> Extractor:
        if "exact" in self._ways:
            return extractor
        if not isinstance(extractor, NetworkExtractor):
            raise BenchError(f"the extractor '{extractor.name}' cannot be sped up; leave out --speed")
        some_real, some_fake = real.first(CHECKED), fake.first(CHECKED)
        if not (isinstance(some_real, np.ndarray) and isinstance(some_fake, np.ndarray)):
            raise BenchError("--speed is checked on images of one size; leave it out, or resize them first")
        quick, self.check = speed_up(
            extractor,
            some_real,
            some_fake,
            bfloat16="bfloat16" in self._ways,
            compiled="compiled" in self._ways,
        )
        return quick


def _measure(
    parts: list[Part],
    features: ForeignFeatures,
    sets: Mapping[str, Choice],
    train: Choice | None,
    warnings: list[str],
    *,
    seed: int,
    watching: Watching,
    of_floor: bool = False,
) -> list[Measurement]:
    """All metrics on one pair of sets, ``fake`` and ``real``. of_floor: the samples are training images, which makes nothing of
    metrics that hold samples against these."""
    fake, real = sets["fake"], sets["real"]
    chosen = {**sets, "train": train if train is not None else real}
    rows = {split: features.part(choice.split, choice.rows) for split, choice in chosen.items()}
    of_train = [] if train is None else [train]
    data = {  # whether a metric looks at the training images -> what it is given
        looks: ForeignData(
            _common_space(fake, real, *(of_train if looks else [])), {"train": chosen["train"], "test": real}
        )
        for looks in (False, True)
    }
    evidence = ForeignEvidence(
        fake,
        data=data[False],
        features=lambda split, layer: rows[split](layer),
        extractor=features.name,
        layers=features.layers,
        seed=seed,
        device=features.device,
        version=features.extractor.version,
    )
    found: list[Measurement] = []
    for part in parts:
        metric = make_metric(part)
        evidence.data = data["train" in metric.needs]
        lacking = missing(metric.needs, evidence)
        if (train is None or of_floor) and "train" in metric.needs:
            lacking.add("train")
        if evidence.data.space is None and metric.needs & {"truth", "labels"}:
            lacking.add("images")
        if lacking:
            needed = ", ".join(NEEDED.get(need, need) for need in sorted(lacking))
            warnings.append(f"{part.name} left out: it needs {needed}")
            continue
        watching.phase(part.name)
        try:
            found += metric.measure(evidence)
        except MemoryError:
            raise
        except Exception as error:  # code of anyone's: the other metrics are not the worse for it
            warnings.append(f"{part.name} left out: {said_by(error)}")
    return found


def _common_space(*sets: Choice) -> ImageSpace | None:
    """Of the images of all sets, where they have one size and as many channels."""
    shapes = {each.images.shape for each in sets}
    height, width, channels = (shapes.pop() if len(shapes) == 1 else None) or (0, 0, 0)
    return ImageSpace(channels, height, width) if channels else None
