"""Committed records over commits: one series a (data set, model, metric), its change points, and the same as asv results."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.gate.cells import Cell, rows_of
from bench.gate.judge import known_as
from bench.gate.sides import Side, git, records_of_commit, repository_path
from bench.record import Record
from bench.report.columns import group_and_importance
from bench.stats.changepoint import ChangePoint, change_points
from bench.store import write_atomically

MAGNITUDE = 0.05
"""Changes of level below this share are not shown."""

IMPORTANCE = 10


@dataclasses.dataclass(frozen=True)
class Commit:
    """seconds: of the commit, since 1970."""

    hash: str
    seconds: int
    subject: str


@dataclasses.dataclass(frozen=True)
class Series:
    """One number over the commits that measured it anew, oldest first."""

    subject: str
    metric: str
    unit: str
    direction: str
    commits: tuple[Commit, ...]
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.subject} {self.metric}"


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of level. worse: whether it went the wrong way."""

    series: Series
    point: ChangePoint

    @property
    def commit(self) -> Commit:
        return self.series.commits[self.point.at]

    @property
    def worse(self) -> bool:
        return (self.point.change > 0) == (self.series.direction == "lower")


def read_history(results: Path, revision: str = "HEAD") -> list[tuple[Commit, list[Record]]]:
    """The records under ``results`` at every commit that changed them, oldest first."""
    folder = repository_path(results)
    try:
        log = git("log", "--reverse", "--first-parent", "--format=%H%x09%ct%x09%s", revision, "--", f":/{folder}")
    except subprocess.CalledProcessError as error:
        raise BenchError(f"cannot read the history: {error.stderr.strip().splitlines()[-1]}") from None
    found = []
    for text in log.splitlines():
        commit, seconds, subject = text.split("\t", 2)
        records = records_of_commit(commit, folder)
        if records:
            found.append((Commit(commit, int(seconds), subject), records))
    if not found:
        raise BenchError(f"no commit holds records under '{folder}'; commit records.jsonl after a run")
    return found


def series_of(history: Sequence[tuple[Commit, list[Record]]], metrics: Sequence[str] | None = None) -> list[Series]:
    """The series of the named metrics (by default the most important ones) of every trained row: means over seeds.

    Only numbers of the newest commit's protocol, budget, data (and machine, for speed) are joined: an older point that was measured
    otherwise is left out, for it is no change of the model. A commit that repeats the trials of the one before adds no point.
    """
    points: dict[tuple[str, str], list[tuple[Commit, Cell]]] = {}
    for commit, records in history:
        for row in rows_of(Side("", tuple(records))).values():
            if row.role == "trained":
                for metric, cell in row.cells.items():
                    if cell.direction != "none":
                        points.setdefault(("/".join(row.key), metric), []).append((commit, cell))
    known = {metric: None for _, metric in points}
    wanted = {known_as(name, known) for name in metrics} if metrics is not None else None
    found = []
    for (subject, metric), cells in points.items():
        last = cells[-1][1]
        if metric not in wanted if wanted is not None else group_and_importance(metric, last.unit)[1] > IMPORTANCE:
            continue
        alike = _once([(commit, cell) for commit, cell in cells if cell.facts == last.facts])
        means = tuple(sum(cell.values.values()) / len(cell.values) for _, cell in alike)
        found.append(Series(subject, metric, last.unit, last.direction, tuple(commit for commit, _ in alike), means))
    return found


def _once(points: Sequence[tuple[Commit, Cell]]) -> list[tuple[Commit, Cell]]:
    """Every measurement once, at the commit that brought it and as it was last scored: every commit holds all older records too."""
    found: list[tuple[Commit, Cell]] = []
    for commit, cell in points:
        if found and found[-1][1].trials == cell.trials:
            found[-1] = (found[-1][0], cell)
        else:
            found.append((commit, cell))
    return found


def changes(series: Sequence[Series]) -> list[Change]:
    """The change points of all series, oldest commit first. A warning for people: it fails nothing."""
    found = [Change(one, point) for one in series for point in change_points(one.values, magnitude=MAGNITUDE)]
    return sorted(found, key=lambda change: change.commit.seconds)


# --- as asv results


def write_asv(series: Sequence[Series], folder: Path, machine: Mapping[str, str], repository: Path) -> Path:
    """Write ``series`` as results of airspeed velocity under ``folder``; returns its ``asv.conf.json``, for `asv publish`.

    asv calls every rise a regression, so all is written as a cost: rates as seconds an item, shares as what is missing to 1, other
    "higher is better" numbers negated. The name says which.
    """
    name = machine["machine"]
    place = folder / "results" / name
    costs = [_cost(one) for one in series]
    names = {id(cost): f"{cost.subject}.{cost.metric}" for cost in costs}
    benchmarks = {
        names[id(cost)]: {
            "code": "", "name": names[id(cost)], "param_names": [], "params": [], "timeout": 60, "type": "track", "unit": cost.unit,
            "version": "1", "pretty_name": names[id(cost)],
        }
        for cost in costs
    }  # fmt: skip
    _write(folder / "results" / "benchmarks.json", {**benchmarks, "version": 2})
    _write(place / "machine.json", {**machine, "version": 1})
    by_commit: dict[Commit, dict[str, list[object]]] = {}
    for cost in costs:
        for commit, value in zip(cost.commits, cost.values):
            by_commit.setdefault(commit, {})[names[id(cost)]] = [[value], [], "1"]
    for commit, results in by_commit.items():
        _write(
            place / f"{commit.hash[:8]}-records.json",
            {
                "commit_hash": commit.hash, "date": commit.seconds * 1000, "durations": {}, "env_name": "records", "env_vars": {},
                "params": {**machine, "python": ""}, "python": "", "requirements": {}, "results": results,
                "result_columns": ["result", "params", "version"], "version": 2,
            },
        )  # fmt: skip
    config = {
        "version": 1, "project": "records", "project_url": "", "repo": str(repository), "branches": ["HEAD"], "dvcs": "git",
        "environment_type": "existing", "show_commit_url": "", "results_dir": str((folder / "results").resolve()),
        "html_dir": str((folder / "html").resolve()), "benchmark_dir": str((folder / "benchmarks").resolve()),
    }  # fmt: skip
    _write(folder / "asv.conf.json", config)
    return folder / "asv.conf.json"


def _cost(series: Series) -> Series:
    """The same series such that a rise is worse, under asv's kind of name (``suite.dataset.model.metric``)."""
    name = series.subject.replace(".", "_").replace("/", ".")
    values, metric, unit = series.values, series.metric, series.unit
    if series.direction == "higher":
        if unit.endswith("/s") and min(values) > 0:
            values, metric, unit = tuple(1 / v for v in values), f"{metric}_inverse", f"s/{unit[:-2].rstrip('s')}"
        elif unit == "1" and min(values) >= 0 and max(values) <= 1:
            values, metric = tuple(1 - v for v in values), f"{metric}_shortfall"
        else:
            values, metric = tuple(-v for v in values), f"{metric}_negated"
    return dataclasses.replace(series, subject=name, metric=metric, unit=unit, values=values)


def _write(path: Path, content: object) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode())
