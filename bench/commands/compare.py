"""`bench compare`: two sets of records, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, ResultsOption, names_of

_SIDE = "Results folder, records file, or git revision (REV or REV:FOLDER) with committed records; @MODEL behind it for one model."


def compare(
    base: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    head: Annotated[str, typer.Argument(metavar="B", help="As A; changes are shown for B against A.")],
    metrics: Annotated[
        str | None, typer.Option(help="Measurements with commas between them, e.g. kid_effnetlite0.")
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            help="The change that does not matter: 5% of A, or 0.02 in the metric's units. [default: 5%, for speed twice the "
            "stored noise of the machine where that is more]"
        ),
    ] = None,
    results: ResultsOption = Path("results"),
) -> int:
    """Better, worse, equivalent, inconclusive or not comparable, and why. Always ends with 0: `bench gate` is for CI."""
    from rich.console import Console

    from bench.gate.judge import compare_sides
    from bench.gate.margins import stored_margins
    from bench.gate.sides import load_side
    from bench.report.verdicts_text import verdicts_renderable

    noise = stored_margins(results)
    verdicts = compare_sides(load_side(base, results), load_side(head, results), names_of(metrics), margin, noise=noise)
    Console().print(verdicts_renderable(verdicts))
    return OK
