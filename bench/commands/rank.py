"""`bench rank`: models over all data sets of a suite, or from preferences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK
from bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from bench.report.overall import Overall


def rank(
    results: Annotated[
        Path, typer.Argument(help="A results folder, a suite's folder or a records file.", show_default=True)
    ] = Path("results"),
    metric: Annotated[str | None, typer.Option(help="What ranks. [default: what ranks the leaderboards]")] = None,
    worst: Annotated[
        str | None, typer.Option(help="The baseline whose score is 0; the floor's is 1. [default: noise]")
    ] = None,
    preferences: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Instead: votes (winner,loser[,tie]) to Bradley-Terry strengths.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables, with all pairs.")] = None,
) -> int:
    """Who is best over all data sets of a suite: mean rank and P(best), interquartile mean score, probability of improvement."""
    from rich.console import Console

    from bench.report.overall_text import markdown_table, overall_markdown, overall_renderable, rich_table
    from bench.store import write_atomically

    console = Console()
    if preferences is not None:
        from bench.report.preferences import read_votes, strength_cells, strengths

        cells = strength_cells(strengths(read_votes(preferences)))
        console.print(rich_table(cells, f"preferences in {preferences}"))
        text = markdown_table(cells) + "\n"
    else:
        tables = _of_suites(results, metric, worst)
        for table in tables:
            console.print(overall_renderable(table))
        text = "\n".join(overall_markdown(table) for table in tables)
    if markdown is not None:
        write_atomically(markdown, text.encode())
    return OK


def _of_suites(results: Path, metric: str | None, worst: str | None) -> list[Overall]:
    """One table for each suite and budget."""
    from bench.report.overall import overall
    from bench.report.write import rank_by
    from bench.store import find_stores, to_frame

    found = []
    stored = [store.current() for store in find_stores(results)]
    known = {record.model for records in stored for record in records if record.role == "baseline"}
    if worst is not None and worst not in known:
        raise BenchError(f"--worst: no baseline here is called '{worst}'; {did_you_mean(worst, known)}")
    for records in stored:
        frame = to_frame(records)
        for _, part in frame.groupby(["suite", "budget"], sort=False, dropna=False):
            if (part.role == "trained").any():
                found.append(overall(part, metric or rank_by(records), worst or "noise"))
    if not found:
        raise BenchError(f"no records of trained models at '{results}'; run `bench run` first")
    return found
