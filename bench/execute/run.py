"""Run a plan: skip what is finished, execute the rest one by one, store every record at once."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from bench.execute.local import Executor, Outcome
from bench.plan import Trial
from bench.record import Record
from bench.store import ResultStore, has_samples, latest_of_each_cell

TODO, RESCORE, DONE = "to run", "to score again", "done"


class Display(Protocol):
    """What a run tells while it goes on."""

    def begin(self, trial: Trial, number: int, total: int) -> None: ...

    def event(self, event: dict[str, Any]) -> None: ...

    def end(self, trial: Trial, record: Record) -> None: ...


@dataclasses.dataclass
class Summary:
    """What a run did. overhead: share of wall time that was neither training, sampling, sweeps nor scoring."""

    done_before: int = 0
    ran: int = 0
    failed: int = 0
    wall_seconds: float = 0.0
    work_seconds: float = 0.0

    @property
    def overhead(self) -> float:
        return 1 - self.work_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0


def artifacts_folder(store: ResultStore, trial_id: str) -> Path:
    """Where a trial's sample set, weights and logs are kept (not committed; deleting it makes the trial run again)."""
    return store.folder / "artifacts" / trial_id


def state(trial: Trial, latest: dict[str, Record], store: ResultStore) -> str:
    """TODO, RESCORE or DONE. Done means: a record with the present metrics, and (where complete) its sample set on disk.

    A trial that failed in scoring, too, is only scored again where its metrics changed and its sample set is there.
    """
    record = latest.get(trial.id)
    if record is None or record.status in ("killed", "timeout"):
        return TODO
    scored = record.scoring == trial.scoring
    if scored and record.status != "complete":
        return DONE
    if not has_samples(artifacts_folder(store, trial.id), record):
        return TODO
    return DONE if scored else RESCORE


def run_plan(
    trials: Iterable[Trial],
    store: ResultStore,
    make_executor: Callable[[], Executor],
    display: Display,
    retry: bool = False,
) -> Summary:
    """Execute all trials that are not done. A record is stored (fsync) as soon as its trial ends.

    retry: run failed and diverged trials again.
    """
    trials = list(trials)
    summary = Summary()
    with store.lock():
        records = store.records()
        latest = {record.trial: record for record in records}
        shown = {record.trial: record for record in latest_of_each_cell(records)}
        work = []
        for trial in trials:
            record = latest.get(trial.id)
            again = retry and record is not None and record.status != "complete"
            if state(trial, latest, store) == DONE and not again:
                summary.done_before += 1
                summary.failed += record is not None and record.status != "complete"
                if record is not None and (renewed := _described_anew(trial, record, shown)) is not None:
                    store.append(renewed)
            else:
                work.append((trial, again))
        if not work:
            return summary
        began = time.perf_counter()
        executor = make_executor()
        try:
            for trial, again in work:
                display.begin(trial, summary.done_before + summary.ran + 1, len(trials))
                if again:
                    (artifacts_folder(store, trial.id) / "record.json").unlink(missing_ok=True)
                record = _one(trial, store, executor, display)
                store.append(record)
                summary.ran += 1
                summary.failed += record.status != "complete"
                summary.work_seconds += _work_seconds(record)
                display.end(trial, record)
        finally:
            executor.close()
            summary.wall_seconds = time.perf_counter() - began
    return summary


def _described_anew(trial: Trial, record: Record, shown: Mapping[str, Record]) -> Record | None:
    """The record of a finished trial as the table is to show it; None if that is what it shows already.

    After a change and its revert the table shows the other trial of the cell; and ``rank_by``, names and prices are no part of what
    a trial is.
    """
    described = trial.described()
    described["config"] = {"price": record.config.get("price"), **described["config"]}
    renewed = record.model_copy(update=described)
    return None if shown.get(trial.id) is record and renewed == record else renewed


def _one(trial: Trial, store: ResultStore, executor: Executor, display: Display) -> Record:
    out = artifacts_folder(store, trial.id)
    outcome = executor.run(trial, out, display.event)
    if outcome.ok:
        return Record.model_validate_json((out / "record.json").read_text())
    return ended_badly(trial, outcome)


def ended_badly(trial: Trial, outcome: Outcome) -> Record:
    """The record of a trial whose process could not write one."""
    return Record(
        **trial.described(),
        status=outcome.status,  # type: ignore[arg-type]
        reason=outcome.reason,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        measurements=[],
        environment="",
        provenance={},
    )


def _work_seconds(record: Record) -> float:
    """Seconds of training, prior, sampling, sweeps and scoring: what the run was started for."""
    if "rescoring" in record.seconds:
        return record.seconds["rescoring"]
    return sum(record.seconds.get(stage, 0.0) for stage in ("training", "prior", "sampling", "sweeps", "scoring"))
