"""Run metrics through the stages; what was measured is kept at once, so that an interrupted run goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bench import provenance, registry
from bench.errors import BenchError
from bench.features.cache import default_folder
from bench.plan import Part
from bench.sanity.corruptions import Corruption
from bench.sanity.expected import stem
from bench.sanity.stages import Stage
from bench.scoring import make_metric, missing


@dataclasses.dataclass(frozen=True)
class Reading:
    """One value: of which measurement (``stem``, ``direction``), by which registered metric, under what."""

    metric: str
    stem: str
    direction: str
    stage: str
    corruption: str
    strength: float
    repeat: int
    value: float


@dataclasses.dataclass(frozen=True)
class Task:
    """A metric to be run once."""

    stage: Stage
    metric: Part
    corruption: Corruption
    strength: float
    repeat: int

    @property
    def key(self) -> str:
        return f"{self.metric.digest}|{self.metric.options}|{self.stage.name}|{self.corruption.name}|{self.strength:g}|{self.repeat}"


class Journal:
    """Readings of earlier runs with the same data, extractor and sizes: a file of JSON lines beside the feature cache."""

    def __init__(self, identity: Sequence[Any]) -> None:
        self.path = default_folder().parent / "sanity" / f"{provenance.short_hash(list(identity))}.jsonl"
        self.kept: dict[str, list[Reading]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.kept[entry["key"]] = [Reading(**fields) for fields in entry["readings"]]

    def add(self, key: str, readings: list[Reading]) -> None:
        self.kept[key] = readings
        with contextlib.suppress(OSError):  # a folder that cannot be written keeps nothing
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                line = json.dumps({"key": key, "readings": [dataclasses.asdict(reading) for reading in readings]})
                file.write(line + "\n")


def part_of(name: str, options: dict[str, Any] | None = None) -> Part:
    entry = registry.find("metric", name)
    return Part(name=name, target=entry.target, options=options or {}, digest=registry.code_digest(entry.target)[:16])


def tasks_of(stages: Sequence[Stage], metrics: Sequence[Part], strengths: int | None = None) -> list[Task]:
    """Every metric under every corruption that concerns it; the clean data once a stage (strength 0).

    strengths: only so many of each corruption's strengths, the strongest among them.
    """
    return [task for stage in stages for metric in metrics for task in _of_stage(stage, metric, strengths)]


def _of_stage(stage: Stage, metric: Part, strengths: int | None) -> Iterator[Task]:
    needs = registry.load(metric.target).needs
    taken = list(stage.takes(needs, metric.name))
    for repeat in range(stage.repeats if taken else 0):
        yield Task(stage, metric, taken[0], 0.0, repeat)
        for corruption in taken:
            levels = tuple(stage.strengths(corruption))
            if strengths is not None:
                levels = tuple(
                    levels[i] for i in np.linspace(0, len(levels) - 1, strengths + 1).round().astype(int)[1:]
                )
            for strength in levels:
                yield Task(stage, metric, corruption, strength, repeat)


def run(tasks: Sequence[Task], journal: Journal, on_task: Callable[[Task], None] | None = None) -> list[Reading]:
    """All readings of ``tasks``; those of the clean data stand under the corruption ``clean``. Where a metric cannot be computed any
    more under a corruption, each of its clean measurements has the value NaN."""
    found: list[Reading] = []
    clean: dict[tuple[str, str], list[Reading]] = {}
    for task in tasks:
        if on_task:
            on_task(task)
        if task.key not in journal.kept:
            journal.add(task.key, measure(task))
        readings, of = journal.kept[task.key], (task.stage.name, task.metric.name)
        if task.strength == 0:
            clean.setdefault(of, readings)
        found += readings or [
            dataclasses.replace(
                reading, corruption=task.corruption.name, strength=task.strength, repeat=task.repeat, value=math.nan
            )
            for reading in clean.get(of, ())
        ]
    return found


def measure(task: Task) -> list[Reading]:
    """One metric on one evidence; nothing where it cannot be applied here."""
    evidence = task.stage.evidence(task.corruption, task.strength, task.repeat)
    metric = make_metric(task.metric)
    if missing(metric.needs, evidence):
        return []
    try:
        measurements = metric.measure(evidence)
    except (BenchError, ValueError, np.linalg.LinAlgError):
        if task.strength == 0:
            raise
        return []  # a corruption that leaves nothing to measure: a class without samples, for one
    corruption = task.corruption.name if task.strength > 0 else "clean"
    return [
        Reading(
            task.metric.name,
            stem(m.name, evidence.extractor),
            m.direction,
            task.stage.name,
            corruption,
            task.strength,
            task.repeat,
            float(m),
        )
        for m in measurements
    ]
