"""All of ``bench sanity`` behind one call: data, stages, readings, findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from bench.config_file import find_config
from bench.data.base import Data
from bench.errors import BenchError
from bench.features.cache import FeatureCache
from bench.plan import extractor_named
from bench.sanity.judge import Finding, judge
from bench.sanity.run import Journal, Task, part_of, run, tasks_of
from bench.sanity.stages import Models, Points, Samples, Stage
from bench.scoring import FeatureBank
from bench.suite import load_config

POINTS = {"ring8": "modes", "grid25": "modes", "shapes": "modes", "stacked-mnist": "stacked-modes"}
"""Data sets whose modes are known, and the metric that counts them."""

OPTIONS: dict[str, dict[str, Any]] = {
    "lpips-diversity": {"pairs": 30, "net": "effnetlite0"},
    "lpips-reconstruction": {"images": 40, "net": "effnetlite0"},
}
"""Options other than the defaults: one more network pass an image would cost more than all else, and the page is the same everywhere."""

POINT_SAMPLES, POINT_REPEATS = 400, 3
DEFAULT_DATASET, DEFAULT_N = "mnist", 160
CLASSIFIER, OTHERWISE = "dataset-classifier", "effnetlite0"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run found. n: images in the reference and in the samples of each of ``repeats`` repetitions."""

    dataset: str
    extractor: str
    extractor_version: str
    n: int
    repeats: int
    findings: list[Finding]

    @property
    def failures(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fails]


def try_metrics(
    dataset: str = DEFAULT_DATASET,
    extractor: str | None = None,
    metrics: Sequence[str] | None = None,
    *,
    extractor_options: dict[str, Any] | None = None,
    n: int = DEFAULT_N,
    repeats: int = 4,
    seed: int = 0,
    strengths: int | None = None,
    points: Sequence[str] = tuple(POINTS),
    device: str = "cpu",
    config: Path | None = None,
    on_task: Callable[[int, int, Task], None] | None = None,
    on_phase: Callable[[str], None] | None = None,
) -> Outcome:
    """Try registered metrics on corruptions of ``dataset`` (images, with or without classes).

    extractor: a registered one; None: the classifier of the data set, or effnetlite0 where it has no classes.
    metrics: names; None: all that are registered. n, repeats: each repetition takes n reference images and n samples, no image
    twice; fewer where the data set is small. strengths: how many of each corruption's, the strongest among them (None: all).
    points: data sets with known modes to be used as well. on_task: called with (done, all, task). Raises BenchError for
    unusable data or names.
    """
    if repeats < 3:
        raise BenchError(f"--repeats must be at least 3, got {repeats}: two draws cannot tell a change from chance")
    parts = [
        part_of(name, OPTIONS.get(name))
        for name in (sorted(registry.entries("metric")) if metrics is None else metrics)
    ]
    data = _load(dataset, config)
    extractor = extractor or (OTHERWISE if data.train_labels is None else CLASSIFIER)
    part = extractor_named(extractor, extractor_options)

    def bank_of(reference: Data, splits: dict[str, Any]) -> FeatureBank:
        return FeatureBank(splits, part, True, device, FeatureCache(), on_phase, reference)

    samples = Samples(data, bank_of, n, repeats, seed)
    stages: list[Stage] = [samples, Models(samples)]
    wanted = {part.name for part in parts}
    for name in points:
        if POINTS[name] in wanted:
            stages.append(_points(name, _load(name, config), min(repeats, POINT_REPEATS), seed))
    tasks = tasks_of(stages, parts, strengths)
    journal = Journal([data.digest(), samples.bank.version, samples.n, repeats, seed])
    done = iter(range(len(tasks)))
    readings = run(tasks, journal, lambda task: on_task(next(done), len(tasks), task) if on_task else None)
    return Outcome(
        dataset, extractor, samples.bank.version, samples.n, repeats, judge(readings, extractor == CLASSIFIER)
    )


def _load(name: str, config: Path | None) -> Data:
    target, options = load_config(find_config(config)).dataset_source(name)
    return registry.load(target)(**options).load()


def _points(name: str, data: Data, repeats: int, seed: int) -> Points:
    modes = data.test_labels
    if data.test_factors is not None and "shape" in data.test_factors:
        modes = data.test_factors["shape"]
    assert modes is not None
    n = min(POINT_SAMPLES, len(data.test) // 4)
    return Points(data, np.asarray(modes), POINTS[name], n, repeats, seed)
