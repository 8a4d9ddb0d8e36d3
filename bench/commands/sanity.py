"""`bench sanity`: do the metrics notice what they should?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, REGRESSION, ConfigOption, names_of


def sanity(
    dataset: Annotated[str, typer.Option(help="Image data set to corrupt, with classes or without.")] = "mnist",
    extractor: Annotated[
        str | None,
        typer.Option(help="A registered extractor. [default: the data set's classifier; without classes effnetlite0]"),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Registered metrics with commas between. [default: all]")] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights, where it ships none.")] = None,
    n: Annotated[int, typer.Option(help="Samples, and reference images, in each repetition.")] = 160,
    repeats: Annotated[int, typer.Option(help="Repetitions with other images.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="The page of metric cards.")] = Path("docs/sanity.md"),
    config: ConfigOption = None,
) -> int:
    """Try metrics on known corruptions of real data; exit code 1 where one does not respond as documented."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from bench.api import resolve_device
    from bench.sanity.page import page
    from bench.sanity.run import Task
    from bench.sanity.trial import try_metrics
    from bench.store import write_atomically

    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        bar_task = bar.add_task("loading")

        def on_task(done: int, total: int, task: Task) -> None:
            bar.update(
                bar_task, completed=done + 1, total=total, description=f"{task.metric.name} on {task.corruption.name}"
            )

        outcome = try_metrics(
            dataset,
            extractor,
            names_of(metrics),
            extractor_options={} if weights is None else {"weights": str(weights)},
            n=n,
            repeats=repeats,
            device=resolve_device(device),
            config=config,
            on_task=on_task,
            on_phase=lambda what: bar.update(bar_task, description=what),
        )
    write_atomically(out, page(outcome).encode())
    if outcome.n < n:
        console.print(f"{outcome.n} images in each repetition, not {n}: the data set has no more for {repeats} of them")
    for finding in outcome.failures:
        console.print(
            f"{finding.stem} does not get {finding.documented} with {finding.corruption} "
            f"(rank correlation {finding.correlation:+.2f}, {finding.stage})",
            highlight=False,
        )
    print(f"{len(outcome.findings)} findings, {len(outcome.failures)} not as documented; see {out}")
    return REGRESSION if outcome.failures else OK
