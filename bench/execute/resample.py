"""More sample sets of models that are trained already, each with its own sampling seed, scored as the first one was."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.execute.run import artifacts_folder
from bench.execute.worker import make_importable, read_trial
from bench.features.cache import FeatureCache
from bench.model import GenerativeModel
from bench.plan import Part, Trial, with_present_code
from bench.record import MeasurementFields, Record
from bench.sampling import draw
from bench.scoring import gather, score
from bench.stages.state import State, sampling_seed
from bench.store import ResultStore, has_samples
from bench.trial import load_samples, trained_model

FILE = "sample_sets.jsonl"
ROUNDING = 0.02
"""Mean difference, in standard deviations of the samples, up to which a loaded model counts as the one that drew them."""

Scores = Mapping[str, tuple[float, float | None]]
"""Measurement -> (value, finite-sample standard error; None where it has none)."""


@dataclasses.dataclass(frozen=True)
class Resampled:
    """One trained model: the scores of its sample sets, that of the record first."""

    record: Record
    sets: tuple[Scores, ...]


def resample(
    store: ResultStore,
    records: Sequence[Record],
    metrics: Sequence[str],
    sets: int,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> list[Resampled]:
    """``sets`` sample sets of every trained model in ``records``: the stored one, and others drawn with sampling seeds of their own.

    metrics: names of measurements. Each finished set is kept beside the trial, so that Ctrl-C loses the running one alone.
    Raises BenchError where a trial's folder (weights, sample set) is not there: records alone cannot draw samples.
    """
    found = []
    for number, record in enumerate(records, 1):
        out = artifacts_folder(store, record.trial)
        if not has_samples(out, record) or not (out / "trial.json").is_file():
            raise BenchError(
                f"the model of {record.dataset}/{record.model} seed {record.seed} is not in '{out}': `bench variance` draws new "
                f"samples from trained models; run `bench run {record.suite}` on this machine first"
            )
        place = f"{number}/{len(records)} {record.dataset}/{record.model} seed {record.seed}"
        found.append(_one(record, out, metrics, sets, functools.partial(_said, on_phase, place)))
    return found


def _said(on_phase: Callable[[str], None], place: str, phase: str) -> None:
    on_phase(f"{place}: {phase}")


def scores_of(measurements: Sequence[MeasurementFields], metrics: Sequence[str]) -> Scores:
    """The scores with these names, with the standard errors that their own 95 % intervals tell."""
    found = {}
    for fields in measurements:
        if fields.name in metrics and fields.value is not None:
            whole = fields.low is not None and fields.high is not None and fields.interval != "exact"
            error = (fields.high - fields.low) / (2 * 1.96) if whole else None  # type: ignore[operator]
            found[fields.name] = (float(fields.value), error)
    return found


def _one(record: Record, out: Path, metrics: Sequence[str], sets: int, on_phase: Callable[[str], None]) -> Resampled:
    trial = read_trial(out / "trial.json")
    make_importable(trial)
    trial = with_present_code(trial)
    sources = {fields.source for fields in record.measurements if fields.name in metrics}
    parts = [part for part in trial.metrics if part.name in sources]
    scored = {part.name: part.digest for part in parts}
    for name, digest in scored.items():
        if record.scoring.get(name) != digest:
            raise BenchError(
                f"{_named(trial)}: the code of metric '{name}' has changed since it was scored; run `bench run {record.suite}`, "
                "which scores it anew"
            )
    stored = _stored(out / FILE, scored, metrics)
    if any(number not in stored for number in range(1, sets)):
        run = State(trial, out, lambda event: on_phase(str(event.get("phase", ""))))
        for number, scores in _drawn(run, parts, metrics, [n for n in range(1, sets) if n not in stored]):
            stored[number] = scores
            _append(out / FILE, {"set": number, "scored": scored, "scores": scores})
    return Resampled(record, (scores_of(record.measurements, metrics), *(stored[n] for n in range(1, sets))))


def _drawn(
    run: State, parts: list[Part], metrics: Sequence[str], numbers: Sequence[int]
) -> Iterator[tuple[int, Scores]]:
    """(number, scores) of further sample sets, one after the other."""
    trial = run.trial
    data, model = trained_model(run)
    model.eval()
    _check_same_model(run, model)
    batch = min(trial.sample_batch, trial.samples)
    for number in numbers:
        run.phase(f"sample set {number + 1}")
        samples, _ = draw(model, trial.samples, further_seed(trial.seed, number), batch)
        evidence = gather(trial, data, samples, model, FeatureCache(), run.phase)
        measured, _, errors = score(trial, parts, evidence, run.phase)
        if errors:
            raise BenchError(f"{_named(trial)}, sample set {number}: {'; '.join(errors)}")
        yield number, scores_of(measured, metrics)


def further_seed(training_seed: int, number: int) -> int:
    """The seed of a model's sample set ``number``; 0 is that of the record."""
    if number == 0:
        return sampling_seed(training_seed)
    return int(np.random.SeedSequence([sampling_seed(training_seed), number]).generate_state(1)[0])


def _check_same_model(run: State, model: GenerativeModel) -> None:
    """BenchError where the model that was loaded is not the one that drew the stored samples."""
    stored = load_samples(run.out)[: run.trial.sample_batch]
    again, _ = draw(model, len(stored), sampling_seed(run.trial.seed), len(stored))
    if np.abs(again.astype(float) - stored.astype(float)).mean() > ROUNDING * max(float(stored.std()), 1.0):
        raise BenchError(
            f"{_named(run.trial)}: the stored weights do not draw the stored samples any more; the model's code has changed: run "
            f"`bench run {run.trial.suite} --retry` after deleting '{run.out}'"
        )


def _named(trial: Trial) -> str:
    return f"{trial.dataset}/{trial.model} seed {trial.seed}"


def _stored(path: Path, scored: Mapping[str, str], metrics: Sequence[str]) -> dict[int, Scores]:
    """Sets that an earlier call finished with the same metric code; torn lines are drawn again."""
    found: dict[int, Scores] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            same = all(entry["scored"].get(name) == digest for name, digest in scored.items())
            if same and set(metrics) <= set(entry["scores"]):
                found[int(entry["set"])] = {name: tuple(entry["scores"][name]) for name in metrics}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _append(path: Path, entry: dict[str, object]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
