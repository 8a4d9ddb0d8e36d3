"""What `bench scaling` prints: speeds by size, the exponents of a power law, and the efficiency of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.record import Measurement
from bench.report.numbers import format_number
from bench.stats.intervals import Estimate

if TYPE_CHECKING:
    from bench.execute.torchrun import Parallel
    from bench.scaling import Timed


def scaling_renderable(model: str, points: Sequence[Timed], parallel: Sequence[Parallel]) -> RenderableType:
    """One table an axis with the fitted exponents below it."""
    from bench.scaling import exponents

    parts: list[RenderableType] = []
    for axis in dict.fromkeys(point.axis for point in points):
        mine = [point for point in points if point.axis == axis]
        table = _table(
            f"{model} by {axis}", axis, "training (images/s) ↑", "sampling (images/s) ↑", "training FLOPs an image ↓"
        )
        for point in mine:
            table.add_row(
                str(point.value), _speed(point.training), _speed(point.sampling), f"{point.flops_per_image:,.0f}"
            )
        parts.append(table)
        if len(mine) > 1:
            fits = ", ".join(f"{what} {_fit(fit)}" for what, fit in exponents(mine).items())
            parts += [Text(f"exponents of {axis}: {fits}"), Text()]
    if parallel:
        parts.append(_processes(model, parallel))
    return Group(*parts)


def _processes(model: str, parallel: Sequence[Parallel]) -> Table:
    table = _table(f"{model} by number of processes", "processes", "training (images/s) ↑", "efficiency ↑")
    first = parallel[0]
    for entry in parallel:
        table.add_row(str(entry.processes), _speed(entry.throughput), efficiency_text(first, entry))
    return table


def efficiency_text(first: Parallel, entry: Parallel) -> str:
    """Images/s a process against those of the first row; the interval holds all that both speeds' intervals allow."""
    a, b, times = first.throughput, entry.throughput, first.processes / entry.processes
    ends = ""
    if entry is not first and a.low and a.high and b.low and b.high:
        ends = f" [{b.low / a.high * times:.0%}, {b.high / a.low * times:.0%}]"
    return f"{b / a * times:.0%}{ends}"


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for header in headers:
        table.add_column(header, justify="right")
    return table


def _speed(measured: Measurement) -> str:
    ends = ""
    if measured.low is not None and measured.high is not None:
        ends = f" [{format_number(measured.low, 3)}, {format_number(measured.high, 3)}]"
    return f"{format_number(float(measured), 3)}{ends}{f' {measured.note}' if measured.note else ''}"


def _fit(fit: Estimate | None) -> str:
    if fit is None:
        return "not fitted (zero)"
    ends = f" [{fit.low:.2f}, {fit.high:.2f}]" if fit.low is not None else " (two points: no interval)"
    return f"{fit.value:.2f}{ends}"
