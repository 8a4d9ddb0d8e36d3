"""`bench variance`: training seed, sampling seed and finite sample, apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK, names_of
from bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from bench.execute.resample import Resampled
    from bench.record import Record
    from bench.store import ResultStore


def variance(
    results: Annotated[
        Path, typer.Argument(help="A results folder or a suite's folder, with its trained models.")
    ] = Path("results"),
    metrics: Annotated[
        str | None, typer.Option(help="Measurements with commas between them. [default: what ranks the leaderboards]")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Only these, e.g. vae,gan.")] = None,
    sets: Annotated[int, typer.Option(help="Sample sets of each trained model, the stored one included.", min=2)] = 4,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Also write the table to this file.")] = None,
) -> int:
    """Where a score's spread comes from: training seed, sampling seed or finite sample; draws new samples from trained models.

    Ctrl-C and start again: finished sample sets are kept.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from bench.report.markdown import escape
    from bench.report.overall_text import markdown_table, rich_table
    from bench.report.variance import SENTENCES, cells_of
    from bench.store import find_stores, write_atomically

    found: list[Resampled] = []
    wanted: list[str] = []
    for store in find_stores(results):
        records = chosen(store.current(), names_of(models))
        if records:
            names = measured(records, names_of(metrics))
            wanted += [name for name in names if name not in wanted]
            found += _resampled(store, records, names, sets)
    if not found:
        raise BenchError(f"no complete trials of trained models at '{results}'; run `bench run` first")
    console, parts, notes = Console(), [], list(SENTENCES)
    for metric in wanted:
        cells, left_out = cells_of(found, metric)
        notes += left_out
        console.print(rich_table(cells, f"{metric}: {sets} sample sets of every trained model"), Text())
        parts += [f"## {escape(metric)}", "", markdown_table(cells), ""]
    console.print(*(Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in notes))
    if markdown is not None:
        write_atomically(markdown, "\n".join([*parts, *(f"- {escape(note)}" for note in notes), ""]).encode())
    return OK


def chosen(records: list[Record], models: list[str] | None) -> list[Record]:
    """The complete records of trained models with these names."""
    trained = [record for record in records if record.role == "trained"]
    known = {record.model for record in trained}
    for name in models or []:
        if name not in known:
            raise BenchError(f"--models: no records of '{name}'; {did_you_mean(name, known)}")
    return [r for r in trained if r.status == "complete" and (models is None or r.model in models)]


def measured(records: list[Record], metrics: list[str] | None) -> list[str]:
    """The measurements to split: those named, else what ranks. Only scores of sample sets have sampling seeds."""
    from bench.report.write import rank_by

    known = {f.name for record in records for f in record.measurements if f.source not in ("cost", "extractor")}
    distances = sorted((name for name in known if name.startswith("kid_")), key=lambda name: (name[4].isdigit(), name))
    default = rank_by(records) or next(iter(distances), None)  # that of all pairs before one of subsets
    names = metrics or ([default] if default else [])
    if not names:
        raise BenchError("these records rank by nothing; name a measurement with --metrics")
    for name in names:
        if name not in known:
            raise BenchError(f"--metrics: no score of sample sets is called '{name}'; {did_you_mean(name, known)}")
    return names


def _resampled(store: ResultStore, records: list[Record], metrics: list[str], sets: int) -> list[Resampled]:
    import sys

    from rich.console import Console

    from bench.execute.resample import resample
    from bench.measure.lock import device_lock

    device = str(records[0].config.get("device", "cpu"))
    waiting = lambda: print(f"waiting: a trial runs on {device}", file=sys.stderr)  # noqa: E731
    with device_lock(device, waiting), Console(stderr=True).status("drawing samples") as shown:
        return resample(store, records, metrics, sets, shown.update)
