"""Series over commits -> rich renderable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.report.numbers import format_number
from bench.stats.changepoint import MINIMUM_SEGMENT

if TYPE_CHECKING:
    from bench.gate.history import Change, Series

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last ``width`` values as blocks, the smallest lowest."""
    shown = list(values[-width:])
    low, high = min(shown), max(shown)
    if low == high:
        return _BLOCKS[3] * len(shown)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in shown)


def history_renderable(series: Sequence[Series], changes: Sequence[Change]) -> RenderableType:
    """Every series with its course, then every change of level with the commit that brought it."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, justify in (
        ("row", "left"),
        ("metric", "left"),
        ("measured", "right"),
        ("course", "left"),
        ("now", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for one in series:
        arrow = "↓" if one.direction == "lower" else "↑"
        unit = "" if one.unit == "1" else f" {one.unit}"
        now = format_number(one.values[-1]) + unit
        table.add_row(one.subject, f"{one.metric} {arrow}", str(len(one.values)), sparkline(one.values), now)
    lines: list[RenderableType] = [table, Text()]
    for change in changes:
        point, commit = change.point, change.commit
        said = f"{'worse' if change.worse else 'better'}  {commit.hash[:10]} {commit.subject}: {change.series.name} "
        said += f"{format_number(point.before)} -> {format_number(point.after)} ({100 * point.change:+.3g} %, p = {point.p:.2g})"
        lines.append(Text(said, style="red" if change.worse else "green"))
    short = sum(len(one.values) < 2 * MINIMUM_SEGMENT for one in series)
    if not changes:
        lines.append(Text("no change of level found"))
    if short:
        lines.append(
            Text(
                f"{short} of {len(series)} series have fewer than {2 * MINIMUM_SEGMENT} measurements (a commit that repeats one "
                "adds none): too few for a change point",
                style="dim",
            )
        )
    return Group(*lines)
