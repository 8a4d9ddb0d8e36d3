"""Score any sample set against any reference: images from folders, zips, arrays, data sets, or stored statistics.

The same metrics, features and intervals as in suites, for samples that some other system made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import registry
from bench.config_file import find_config
from bench.data.base import Data
from bench.errors import BenchError, did_you_mean
from bench.features.base import Extractor
from bench.features.cache import FeatureCache
from bench.features.fast import SpeedCheck, speed_up
from bench.features.network import NetworkExtractor
from bench.foreign_images import Images, ImageSet, Source, input_warnings, is_dataset, load_set, take
from bench.foreign_statistics import StatisticsSet, distance_of_statistics, distance_to_statistics, is_statistics
from bench.metrics.base import Evidence
from bench.plan import Part, extractor_named
from bench.record import Measurement
from bench.scoring import FeatureBank, make_metric, missing, said_by
from bench.space import ImageSpace
from bench.suite import load_config

if TYPE_CHECKING:
    import pandas as pd

SPEEDS = ("exact", "bfloat16", "compiled", "bfloat16+compiled")
CHECKED = 300  # images of each side on which a faster extractor is checked
DEFAULT_METRICS = ("frechet", "kernel", "prdc", "inception-score", "vendi")


@dataclasses.dataclass(frozen=True)
class Scores:
    """What scoring found.

    measurements: of the samples against the reference. floor: of real images against the reference, by the same protocol.
    warnings: sentences for whoever reads the numbers.
    """

    samples: ImageSet | StatisticsSet
    reference: ImageSet | StatisticsSet
    measurements: list[Measurement]
    floor: dict[str, Measurement]
    floor_means: str
    warnings: list[str]

    def to_frame(self) -> pd.DataFrame:
        """One row a measurement: metric, value, low, high, unit, n, direction, interval, note, floor."""
        import pandas as pd

        rows = []
        for measurement in self.measurements:
            fields = measurement.to_dict()
            floor = self.floor.get(measurement.name)
            rows.append({"metric": fields.pop("name"), **fields, "floor": None if floor is None else float(floor)})
        frame = pd.DataFrame(rows)
        frame.attrs["warnings"] = list(self.warnings)
        return frame


def score(
    samples: Source,
    reference: Source,
    metrics: Sequence[str] = DEFAULT_METRICS,
    extractor: str = "effnetlite0",
    train: Source | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Score ``samples`` against ``reference`` -> frame with one row a measurement (see Scores.to_frame).

    samples, reference, train: uint8 array ``(N, H, W, C)``, or a folder (recursive), zip, npz, npy file, or the name of a data
    set (its test split; for ``train`` its training split); ``samples`` and ``reference`` may also be statistics files, which give
    the raw Fréchet distance only. train: what the model learned from; enables memorisation metrics
    and the train-vs-reference floor. Further options: see ``score_images``. Raises BenchError for unusable input.
    """
    return score_images(samples, reference, metrics, extractor, train, **options).to_frame()


def score_images(
    samples: Source,
    reference: Source,
    metrics: Sequence[str] = DEFAULT_METRICS,
    extractor: str = "effnetlite0",
    train: Source | None = None,
    *,
    extractor_options: dict[str, Any] | None = None,
    device: str = "cpu",
    strict: bool = False,
    seed: int = 0,
    speed: str = "exact",
    config: Path | None = None,
    on_phase: Callable[[str], None] | None = None,
) -> Scores:
    """As ``score``, with everything that was found. strict: a corrupt image stops instead of being left out and named.

    speed: "bfloat16", "compiled" or "bfloat16+compiled" runs the extractor's network so, if a check on up to 300 images of each
    side shows that the Fréchet distance keeps its value to 0.1 %; the first warning says what it showed. "exact": float32.
    """
    settings = load_config(find_config(config))
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    part, quicker = extractor_named(extractor, extractor_options), Quicker(speed)
    parts = [Part(name=name, target=registry.find("metric", name).target) for name in metrics]
    fake, real = (
        StatisticsSet(str(source), Path(str(source)).expanduser())
        if is_statistics(source)
        else load_set(source, "test", settings, strict)
        for source in (samples, reference)
    )
    if isinstance(fake, StatisticsSet) or isinstance(real, StatisticsSet):
        if speed != "exact":
            raise BenchError("--speed is checked on images of both sides, and a statistics file has none; leave it out")
        return _of_statistics(fake, real, part, parts, device, on_phase)
    if train is None and isinstance(reference, str) and is_dataset(reference, settings):
        train = reference
    known = None if train is None else load_set(train, "train", settings, strict)

    warnings = input_warnings(fake, real)
    measure = functools.partial(
        _measure, parts, part, quicker, data=real.data, device=device, seed=seed, on_phase=on_phase
    )
    measurements = measure(fake.images, real.images, known, warnings)
    floor_images, floor_real, floor_means = _floor_sets(real, known, len(fake), seed)
    floor = measure(floor_images, floor_real, None, [])
    if quicker.check is not None:
        warnings.insert(0, f"extractor in {speed}: {quicker.check}")
    if len(floor_images) != len(fake):
        warnings.append(
            f"floor: taken with {len(floor_images)} images, not {len(fake)}; it is no bound for what depends on the number of "
            "images, as the Fréchet distance and the Vendi score do (those free of bias compare: fd_corrected, kid)"
        )
    warnings += [f"{m.name}: {m.note}" for m in measurements if m.note]
    warnings += _memorisation_warnings(fake, known, measurements)
    return Scores(fake, real, measurements, {m.name: m for m in floor}, floor_means, warnings)


def _of_statistics(
    fake: ImageSet | StatisticsSet,
    real: ImageSet | StatisticsSet,
    extractor: Part,
    parts: list[Part],
    device: str,
    on_phase: Callable[[str], None] | None,
) -> Scores:
    """The Fréchet distance, where a mean and a covariance stand for one set or both."""
    if isinstance(fake, StatisticsSet) and isinstance(real, StatisticsSet):
        measurements, warnings = distance_of_statistics(fake.path, real.path)
    else:
        images, statistics, split = (real, fake, "real") if isinstance(fake, StatisticsSet) else (fake, real, "fake")
        assert isinstance(images, ImageSet)
        assert isinstance(statistics, StatisticsSet)
        bank = FeatureBank({split: images.images}, extractor, True, device, FeatureCache(), on_phase, images.data)
        measurements, warnings = distance_to_statistics(bank, statistics.path, split)
        if images.report is not None and images.report.corrupt:
            warnings.insert(0, images.report.summary())
    left_out = [part.name for part in parts if part.name != "frechet"]
    if left_out:
        warnings.append(
            f"{', '.join(left_out)} left out: a mean and a covariance suffice for the Fréchet distance only"
        )
    return Scores(fake, real, measurements, {}, "none: statistics alone cannot be split", warnings)


class Quicker:
    """Swaps an extractor for a faster one, once it has been shown not to change the result on the images at hand."""

    def __init__(self, speed: str) -> None:
        if speed not in SPEEDS:
            raise BenchError(f"unknown speed '{speed}'; {did_you_mean(speed, SPEEDS)}")
        self._ways = set(speed.split("+"))
        self._extractor: Extractor | None = None
        self.check: SpeedCheck | None = None

    def __call__(self, extractor: Extractor, real: Images, fake: Images) -> Extractor:
        if "exact" in self._ways:
            return extractor
        if self._extractor is None:
            if not isinstance(extractor, NetworkExtractor):
                raise BenchError(f"the extractor '{extractor.name}' cannot be sped up; leave out --speed")
            if not (isinstance(real, np.ndarray) and isinstance(fake, np.ndarray)):
                raise BenchError("--speed is checked on images of one size; leave it out, or resize them first")
            self._extractor, self.check = speed_up(
                extractor,
                real[:CHECKED],
                fake[:CHECKED],
                bfloat16="bfloat16" in self._ways,
                compiled="compiled" in self._ways,
            )
        return self._extractor


def _measure(
    parts: list[Part],
    extractor: Part,
    quicker: Quicker,
    fake: Images,
    real: Images,
    train: ImageSet | None,
    warnings: list[str],
    *,
    data: Data | None,
    device: str,
    seed: int,
    on_phase: Callable[[str], None] | None,
) -> list[Measurement]:
    """All metrics on one pair of sets, from one feature pass. data: what an extractor that is trained on data learns from."""
    splits: dict[str, Any] = {"real": real, "fake": fake}
    if train is not None:
        splits["train"] = train.images
    bank = FeatureBank(splits, extractor, True, device, FeatureCache(), on_phase, data)
    bank.extractor = quicker(bank.extractor, real, fake)
    uniform = isinstance(fake, np.ndarray) and isinstance(real, np.ndarray) and fake.shape[1:] == real.shape[1:]
    space = ImageSpace(fake.shape[3], fake.shape[1], fake.shape[2]) if uniform else None  # type: ignore[union-attr]
    sets = Data(
        "reference",
        space,  # type: ignore[arg-type]
        train=train.images if train is not None else real,  # type: ignore[arg-type]
        test=real,  # type: ignore[arg-type]
    )
    evidence = Evidence(
        data=sets,
        samples=fake,  # type: ignore[arg-type]
        features=bank,
        extractor=bank.name,
        layers=bank.layers,
        seed=seed,
        device=device,
    )
    found: list[Measurement] = []
    for part in parts:
        metric = make_metric(part)
        lacking = missing(metric.needs, evidence)
        if train is None and "train" in metric.needs:
            lacking.add("train")
        if lacking:
            warnings.append(f"{part.name} left out: it needs {', '.join(sorted(lacking))}")
            continue
        if on_phase:
            on_phase(part.name)
        try:
            found += metric.measure(evidence)
        except MemoryError:
            raise
        except Exception as error:  # code of anyone's: the other metrics are not the worse for it
            warnings.append(f"{part.name} left out: {said_by(error)}")
    return found


def _floor_sets(real: ImageSet, train: ImageSet | None, n: int, seed: int) -> tuple[Images, Images, str]:
    """Real images scored as if they were samples: training images if known, else one half of the reference."""
    rng = np.random.default_rng(seed)
    if train is not None:
        order = rng.permutation(len(train))[:n]
        return take(train.images, order), real.images, f"{len(order)} training images against the reference"
    order = rng.permutation(len(real))
    half = len(real) // 2
    fake, rest = order[: min(n, half)], order[half:]
    return (
        take(real.images, fake),
        take(real.images, rest),
        f"{len(fake)} images of the reference against {len(rest)} others of it",
    )


def _memorisation_warnings(fake: ImageSet, train: ImageSet | None, measurements: list[Measurement]) -> list[str]:
    """Copies of training images among the samples: pixel by pixel, and by the verdict of the memorisation metric."""
    if train is None:
        return []
    warnings = []
    known = {_in_colour(image) for image in train.images}
    copies = sum(_in_colour(image) in known for image in fake.images)
    if copies:
        warnings.append(f"{copies} of {len(fake)} samples equal a training image pixel by pixel")
    if any(m.name.startswith("memorised") and m == 1 for m in measurements):
        warnings.append("the samples are closer to training images than new data are: distances reward this copying")
    return warnings


def _in_colour(image: np.ndarray) -> tuple[int, int, bytes]:
    """Height, width and the bytes of three channels: a grey image saved in colour is the same image."""
    height, width, channels = image.shape
    return height, width, np.ascontiguousarray(np.broadcast_to(image, (height, width, max(3, channels)))).tobytes()
