"""`bench history`: committed records over commits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, ResultsOption, names_of


def history(
    metric: Annotated[
        str | None, typer.Option(help="Measurements with commas between them, e.g. kid_effnetlite0.")
    ] = None,
    results: ResultsOption = Path("results"),
    revision: Annotated[str, typer.Option(help="The newest commit to look at.")] = "HEAD",
    asv: Annotated[
        Path | None, typer.Option("--asv", help="Write the series as asv results to this folder, for `asv publish`.")
    ] = None,
) -> int:
    """Where the committed records changed their level: E-divisive change points of 5 % and more, at 1 %."""
    from rich.console import Console

    from bench.gate.history import changes, read_history, series_of, write_asv
    from bench.gate.sides import git
    from bench.report.history import history_renderable

    series = series_of(read_history(results, revision), names_of(metric))
    Console().print(history_renderable(series, changes(series)))
    if asv is not None:
        config = write_asv(series, asv, _machine(), Path(git("rev-parse", "--show-toplevel").strip()))
        print(f"asv results written; `asv publish --config {config} {revision}` makes the site in {asv / 'html'}")
    return OK


def _machine() -> dict[str, str]:
    """What asv wants to know of a machine."""
    import platform

    from bench import provenance

    return {
        "arch": platform.machine(), "cpu": provenance.cpu_model(), "machine": "records", "num_cpu": str(provenance.usable_cores()),
        "os": platform.system(), "ram": "",
    }  # fmt: skip
