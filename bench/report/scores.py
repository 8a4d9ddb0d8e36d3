"""`bench score`'s table: every number with its interval, its floor and the warnings that go with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.record import Measurement
from bench.report.numbers import format_number

if TYPE_CHECKING:
    from bench.foreign import Scores

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def scores_renderable(scores: Scores) -> RenderableType:
    """Table and warnings for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(_title(scores)), title_justify="left")
    with_units = any(measurement.unit != "1" for measurement in scores.measurements)
    table.add_column("metric", overflow="fold")
    for header in ("value", "95 % interval", "n", *(["unit"] if with_units else []), "floor"):
        table.add_column(header, justify="left" if header == "unit" else "right", no_wrap=True)
    for measurement in scores.measurements:
        floor = scores.floor.get(measurement.name)
        cells = [
            escape(f"{measurement.name} {ARROWS[measurement.direction]}".strip()),
            format_number(measurement.value, 4),
            _interval(measurement),
            "" if measurement.n is None else f"{measurement.n:,}",
        ]
        if with_units:
            cells.append("" if measurement.unit == "1" else escape(measurement.unit))
        table.add_row(*cells, "" if floor is None else format_number(floor.value, 4))
    lines: list[RenderableType] = [table, Text(f"floor: {scores.floor_means}")]
    lines += [f"[yellow]warning:[/] {escape(warning)}" for warning in scores.warnings]
    return Group(*lines)


def scores_json(scores: Scores) -> str:
    """Everything that was found, as JSON."""
    content = {
        "samples": {"name": scores.samples.name, "n": len(scores.samples)},
        "reference": {"name": scores.reference.name, "n": len(scores.reference)},
        "measurements": _finite(scores.measurements),
        "floor": {"means": scores.floor_means, "measurements": _finite(list(scores.floor.values()))},
        "warnings": scores.warnings,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _finite(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    from bench.record import fields_of

    return [fields_of(m, "score", "").model_dump(exclude={"source", "protocol"}) for m in measurements]


def _title(scores: Scores) -> str:
    return " against ".join(
        f"{each.name} ({f'{len(each):,} images' if len(each) else 'statistics'})"
        for each in (scores.samples, scores.reference)
    )


def _interval(measurement: Measurement) -> str:
    if measurement.low is None or measurement.high is None:
        return "none"
    return f"{format_number(measurement.low, 4)} .. {format_number(measurement.high, 4)}"
