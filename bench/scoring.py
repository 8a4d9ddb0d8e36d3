"""Sample set + reference -> measurements: one feature pass serves every metric of a trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench import provenance, registry
from bench.data.base import Data
from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.cache import FeatureCache
from bench.features.extract import Progress, extract
from bench.metrics.base import Evidence
from bench.model import Conditional, HasCodes, HasLatent, HasLikelihood, HasStyle, Reconstructs, TextConditional
from bench.plan import Part, Trial
from bench.record import Measurement, MeasurementFields, fields_of
from bench.space import ImageSpace

RAW = "raw"
CPU_BATCH, GPU_BATCH = (
    16,
    256,
)  # of feature extraction; on a CPU small batches stay in its cache, 1.6 times as fast as 64


class FeatureBank:
    """Features of the real, fake and train images, extracted once on first use and kept; cached on disk by content.

    Data that is no image is its own feature: layer ``raw``, extractor name ``raw``.
    """

    def __init__(
        self,
        splits: dict[str, Any],
        part: Part | None,
        is_image: bool,
        device: str,
        cache: FeatureCache | None = None,
        on_phase: Callable[[str], None] | None = None,
        data: Data | None = None,
        on_images: Progress | None = None,
    ) -> None:
        """data: for an extractor that is trained on the data set at hand (``needs_data``). on_images: told how many are done."""
        self._splits = splits
        self._features: dict[str, dict[str, np.ndarray]] = {}
        self._device, self._cache, self._on_phase, self._on_images = device, cache, on_phase, on_images
        self.extractor: Any = None
        self.name: str | None = None
        self.layers: dict[str, int] = {}
        if not is_image:
            self.name = RAW
            flat = splits["real"].reshape(len(splits["real"]), -1)
            self.layers = {RAW: flat.shape[1]}
        elif part is not None:
            self.extractor = make_extractor(part, device, data)
            self.name, self.layers = self.extractor.name, self.extractor.layers

    @property
    def accuracy(self) -> Measurement | None:
        """Held-out accuracy of an extractor that was trained on the data set at hand."""
        return getattr(self.extractor, "accuracy", None)

    @property
    def version(self) -> str:
        return self.extractor.version if self.extractor is not None else RAW

    def __call__(self, split: str, layer: str) -> np.ndarray:
        """Features ``(N, d)`` float32 of split real | fake | train."""
        if layer not in self.layers:
            raise BenchError(f"the extractor '{self.name}' has no layer '{layer}'; it has {', '.join(self.layers)}")
        if split not in self._features:
            self._features[split] = self._extract(split)
        return self._features[split][layer]

    def of(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Features of any other uint8 images ``(N, H, W, C)``: reconstructions, interpolations."""
        return self._of_images(images)[layer]

    def _extract(self, split: str) -> dict[str, np.ndarray]:
        array = self._splits[split]
        if self.extractor is None:
            return {RAW: array.reshape(len(array), -1).astype(np.float32)}
        if self._on_phase:
            self._on_phase(f"features of {len(array)} {split} images")
        return self._of_images(array, self._on_images)

    def _of_images(self, images: np.ndarray, progress: Progress | None = None) -> dict[str, np.ndarray]:
        read = extract if self._cache is None else self._cache.features
        return read(images, self.extractor, self._device, batch_size_on(self._device), progress)


def make_extractor(part: Part, device: str, data: Data | None = None) -> Extractor:
    """The extractor with its options, on a device. data: for one that is trained on the data set at hand (``needs_data``)."""
    extractor = registry.load(part.target)
    needed = {"data": data} if getattr(extractor, "needs_data", False) else {}
    if needed and data is None:
        raise BenchError(
            f"extractor '{part.name}' is trained on the labelled data of the reference; give the name of a data set "
            "as the reference, or choose another extractor"
        )
    made: Extractor = extractor(**needed, **part.options).to(torch.device(device))
    return made


def batch_size_on(device: str) -> int:
    """Images that an extractor is given at once."""
    return CPU_BATCH if device == "cpu" else GPU_BATCH


def missing(needs: frozenset[str], evidence: Evidence) -> set[str]:
    """Which of a metric's needs this evidence cannot meet."""
    there = {
        "features": bool(evidence.layers),
        "images": isinstance(evidence.data.space, ImageSpace),
        "logits": "logits" in evidence.layers,
        "labels": evidence.data.train_labels is not None,
        "sample_labels": evidence.sample_labels is not None,
        "sample_captions": evidence.sample_captions is not None,
        "train": True,
        "truth": evidence.data.truth is not None,
        "factors": evidence.data.train_factors is not None,
        "reconstructs": isinstance(evidence.model, Reconstructs),
        "likelihood": isinstance(evidence.model, HasLikelihood),
        "latent": isinstance(evidence.model, HasLatent),
        "codes": isinstance(evidence.model, HasCodes),
        "style": isinstance(evidence.model, HasStyle),
    }
    return {need for need in needs if not there.get(need, False)}


def gather(
    trial: Trial,
    data: Data,
    samples: np.ndarray,
    model: Any,
    cache: FeatureCache | None,
    on_phase: Callable[[str], None] | None = None,
    on_images: Progress | None = None,
) -> list[Evidence]:
    """All that metrics may look at for one trial, once for each extractor; data that no network reads: once."""
    is_image = isinstance(data.space, ImageSpace)
    splits = {"real": data.test, "fake": samples, "train": data.train}
    found = []
    for part in (trial.extractors if is_image else ()) or (None,):
        bank = FeatureBank(splits, part, is_image, trial.device, cache, on_phase, data, on_images)
        found.append(
            Evidence(
                data=data,
                samples=samples,
                features=bank,
                extractor=bank.name,
                version=bank.version,
                layers=bank.layers,
                model=model,
                sample_labels=conditions_of(model, len(samples)),
                sample_captions=captions_of(model, len(samples)),
                seed=trial.seed,
                device=trial.device,
                extract=bank.of if bank.extractor is not None else None,
            )
        )
    return found


def conditions_of(model: Any, n: int) -> np.ndarray | None:
    """The class that each of the first ``n`` samples was to have, ``(n,)`` int64; None for an unconditional model."""
    if not isinstance(model, Conditional):
        return None
    return model.labels_of(torch.arange(n, device=model.device)).cpu().numpy()  # type: ignore[attr-defined]


def captions_of(model: Any, n: int) -> list[str] | None:
    """What each of the first ``n`` samples was to show; None for a model that reads no text."""
    return model.captions_of(torch.arange(n)) if isinstance(model, TextConditional) else None


def score(
    trial: Trial,
    metrics: list[Part],
    evidence: Sequence[Evidence],
    on_phase: Callable[[str], None] | None = None,
) -> tuple[list[MeasurementFields], dict[str, float], list[str]]:
    """Run ``metrics`` -> (measurements, seconds of each metric, sentences of those that failed).

    evidence: of each extractor; metrics that read no features are run with the first alone. A metric whose needs are not met
    is absent. Numbers of another protocol (data, n, budget, extractor version, options) get another protocol hash, so that no
    table mixes them.
    """
    found: list[MeasurementFields] = []
    seconds: dict[str, float] = dict.fromkeys((part.name for part in metrics), 0.0)
    errors: list[str] = []
    for each in evidence:
        first = each is evidence[0]
        chosen = [part for part in metrics if first or make_metric(part).needs & {"features", "logits"}]
        measured, took, failed = _score_with(trial, chosen, each, on_phase)
        found += measured
        errors += failed
        seconds = {name: total + took.get(name, 0.0) for name, total in seconds.items()}
    return found, seconds, errors


def _score_with(
    trial: Trial, metrics: list[Part], evidence: Evidence, on_phase: Callable[[str], None] | None
) -> tuple[list[MeasurementFields], dict[str, float], list[str]]:
    """``score`` with the features of one extractor."""
    found: list[MeasurementFields] = []
    seconds: dict[str, float] = {}
    errors: list[str] = []
    version = evidence.version
    if accuracy := getattr(evidence.features, "accuracy", None):
        found.append(fields_of(accuracy, "extractor", provenance.short_hash([trial.data_digest, version])))
    for part in metrics:
        metric = make_metric(part)
        if missing(metric.needs, evidence):
            continue
        if on_phase:
            on_phase(f"{part.name} ({evidence.extractor})" if len(trial.extractors) > 1 else part.name)
        began = time.perf_counter()
        try:
            measurements = _measured(metric, evidence)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # code of anyone's: it may fail in any way, and what training cost is kept
            errors.append(f"metric '{part.name}': {said_by(error)}")
            continue
        finally:
            seconds[part.name] = time.perf_counter() - began
        protocol = provenance.short_hash(
            [trial.data_digest, trial.samples, trial.budget_unit, trial.budget_amount, version, part.name, part.options]
        )
        found += [fields_of(measurement, part.name, protocol) for measurement in measurements]
    return found, seconds, errors


def _measured(metric: Any, evidence: Evidence) -> list[Measurement]:
    """What the metric measures; TypeError where it returns something else."""
    found = list(metric.measure(evidence))
    for each in found:
        if not isinstance(each, Measurement):
            raise TypeError(f"measure() must return a list of Measurement, but one entry is {type(each).__name__}")
    return found


def said_by(error: Exception) -> str:
    """An error in one line: a sentence of ours as it is, any other with its type and the line it came from."""
    if isinstance(error, BenchError):
        return str(error)
    first = (str(error).splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {first}{registry.place_of(error)}"


def make_metric(part: Part) -> Any:
    """The metric with its options; BenchError where it does not take one of them."""
    try:
        return registry.load(part.target)(**part.options)
    except TypeError as error:
        raise BenchError(f"metric '{part.name}' does not take these options: {error}") from None
