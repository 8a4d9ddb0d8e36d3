"""Run the cases that are not done, keep each as it ends, and write the table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from bench.coverage.cases import Case, all_cases
from bench.coverage.page import page
from bench.coverage.row import Row
from bench.errors import BenchError, did_you_mean
from bench.store import write_atomically

Stored = dict[str, dict[str, Any]]
"""Case name -> ``digest``, ``repetitions``, ``seed`` and ``rows``."""


def choose(names: Sequence[str] | None) -> list[Case]:
    """The cases whose names begin with one of ``names``; all for None. BenchError for a name that fits none."""
    cases = all_cases()
    if names is None:
        return cases
    for name in names:
        if not any(case.name.startswith(name) for case in cases):
            known = {case.name.split("-")[0] for case in cases} | {case.name for case in cases}
            raise BenchError(f"--only: no simulation begins with '{name}'; {did_you_mean(name, known)}")
    return [case for case in cases if case.name.startswith(tuple(names))]


def read_rows(path: Path) -> Stored:
    """What an earlier run has kept; nothing where there is no such file."""
    if not path.exists():
        return {}
    try:
        stored = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {entry["case"]: entry for entry in stored}
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"{path} does not hold coverage rows; move it away and run again") from None


def is_done(case: Case, stored: Stored, repetitions: int, seed: int) -> bool:
    """Whether the kept rows are those that a run would give, or rest on more repetitions."""
    entry = stored.get(case.name)
    return (
        entry is not None
        and entry["digest"] == case.digest
        and entry["repetitions"] >= repetitions
        and entry["seed"] == seed
    )


def run_cases(
    cases: Sequence[Case],
    rows_file: Path,
    repetitions: int,
    seed: int,
    on_case: Callable[[str], None] | None = None,
    jobs: int = 1,
) -> Stored:
    """Simulate what is not done; ``rows_file`` (JSON lines) is rewritten after each case, so that Ctrl-C loses only what is under way.

    jobs: cases at a time, each in a process and on one thread (1: here). The rows do not depend on it.
    """
    stored = read_rows(rows_file)
    waiting = [case for case in cases if not is_done(case, stored, repetitions, seed)]
    order = {each.name: i for i, each in enumerate(all_cases())}
    for case in cases:
        if on_case and case not in waiting:
            on_case(case.name)
    with parallel_config("loky", inner_max_num_threads=1):
        simulated = Parallel(jobs, return_as="generator_unordered")(
            delayed(_simulated)(case, repetitions, seed) for case in waiting
        )
        for entry in simulated:
            stored[entry["case"]] = entry
            lines = [json.dumps(stored[name]) for name in sorted(stored, key=lambda name: order.get(name, len(order)))]
            write_atomically(rows_file, ("\n".join(lines) + "\n").encode())
            if on_case:
                on_case(entry["case"])
    return stored


def _simulated(case: Case, repetitions: int, seed: int) -> dict[str, Any]:
    rows = [dataclasses.asdict(row) for row in case.run(repetitions, seed)]
    return {"case": case.name, "digest": case.digest, "repetitions": repetitions, "seed": seed, "rows": rows}


def rows_of(stored: Stored, cases: Sequence[Case]) -> list[Row]:
    return [Row(**fields) for case in cases if case.name in stored for fields in stored[case.name]["rows"]]


def write_page(path: Path, stored: Stored) -> None:
    """The Markdown page of all kept rows."""
    write_atomically(path, page(rows_of(stored, all_cases())).encode())
