"""`bench coverage`: do the intervals hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, REGRESSION, names_of
from bench.errors import BenchError


def coverage(
    repetitions: Annotated[int, typer.Option(help="Simulated data sets a row.")] = 400,
    only: Annotated[str | None, typer.Option(help="Beginnings of simulations' names, with commas between.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Simulations at a time, each on one thread (default: one a core).", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page; its rows stand beside it as .jsonl and are kept.")] = Path(
        "docs/intervals.md"
    ),
) -> int:
    """Simulate how often each metric's 95 % interval covers; exit code 1 where one is too narrow."""
    from joblib import cpu_count
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from bench.coverage.run import choose, rows_of, run_cases, write_page

    for name, value in (("--repetitions", repetitions), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise BenchError(f"{name} must be at least 1, got {value}")
    cases = choose(names_of(only))
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("simulating", total=len(cases))
        stored = run_cases(
            cases,
            out.with_suffix(".jsonl"),
            repetitions,
            seed,
            lambda name: bar.update(task, advance=1, description=name),
            jobs or cpu_count(),
        )
    write_page(out, stored)
    rows = rows_of(stored, cases)
    narrow = [row for row in rows if row.verdict == "TOO NARROW"]
    for row in narrow:
        size = f"n = {row.n}" if row.d is None else f"d = {row.d}, n = {row.n}"
        console.print(
            f"too narrow: {row.metric} on {row.distribution} ({size}) covers {row.coverage:.1%}", highlight=False
        )
    print(f"{len(rows)} rows, {len(narrow)} too narrow; see {out}")
    return REGRESSION if narrow else OK
