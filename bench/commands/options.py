"""Options, exit codes and small parsers that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import BenchError

OK, REGRESSION, USAGE, FAILED_TRIALS, INCONCLUSIVE = 0, 1, 2, 3, 4
INTERRUPTED = 130
DEFECT = 70

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Suites, models and data sets. [default: benchmarks.toml]")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of the results, one folder a suite.")]


def names_of(text: str | None) -> list[str] | None:
    """The names in "a,b,c"; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def seeds_of(text: str | None) -> list[int] | None:
    """The seeds in "0,1,2"; None stays None."""
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"--seeds takes whole numbers with commas between them, got '{text}'") from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise BenchError(f"--seeds takes different numbers from 0 up, got '{text}'")
    return seeds
