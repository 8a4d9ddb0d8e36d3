"""`bench score`'s table: every number with its interval, its floor and the warnings that go with it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement as Width
from rich.table import Table
from rich.text import Text

from bench.record import Measurement
from bench.report.numbers import format_number

if TYPE_CHECKING:
    from bench.features.base import Extractor
    from bench.foreign import Scores
    from bench.foreign_images import ImageSet
    from bench.foreign_statistics import StatisticsSet

FORMAT = "gen-bench scores 1"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


NARROW = 80  # columns of a terminal; below, a floor's interval stands on a line of its own


def scores_renderable(scores: Scores) -> RenderableType:
    """Table and warnings for a terminal."""
    lines: list[RenderableType] = [
        Text(_title(scores), style="italic"),
        _Table(scores),
        Text(f"floor: {scores.floor_means}"),
    ]
    lines += [f"[yellow]warning:[/] {escape(warning)}" for warning in scores.warnings]
    return Group(*lines)


class _Table:
    """All measurements, as wide as the terminal allows."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.scores, options.max_width < NARROW)


def _table(scores: Scores, narrow: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("metric")
    for header in ("value", "95 % interval", "n", *(["floor"] if scores.floor else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for measurement in scores.measurements:
        floor = scores.floor.get(measurement.name)
        table.add_row(
            _Name(measurement),
            format_number(measurement.value, 4),
            _interval(measurement),
            "" if measurement.n is None else f"{measurement.n:,}",
            *([] if not scores.floor else ["" if floor is None else _with_half(floor, narrow)]),
        )
    return table


def scores_json(scores: Scores) -> str:
    """Everything that was found, as JSON; ``docs/metrics.md`` says what each key means."""
    content = {
        "format": FORMAT,
        "bench": version("gen-bench"),
        "samples": _set(scores.samples),
        "reference": _set(scores.reference),
        "train": None if scores.train is None else _set(scores.train),
        "extractor": None if scores.extractor is None else _extractor(scores.extractor),
        "seed": scores.seed,
        "device": scores.device,
        "measurements": _finite(scores.measurements),
        "floor": {"means": scores.floor_means, "measurements": _finite(list(scores.floor.values()))},
        "warnings": scores.warnings,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _set(each: ImageSet | StatisticsSet) -> dict[str, Any]:
    from bench.foreign_statistics import StatisticsSet

    if isinstance(each, StatisticsSet):
        about = dataclasses.asdict(each.held.provenance)
        del about["source"]
        return {"name": each.name, "n": each.held.n, "sha256": about["data_sha256"], "statistics": about}
    corrupt = [{"image": name, "reason": reason} for name, reason in each.report.corrupt]
    return {
        "name": each.name,
        "n": len(each),
        "sha256": each.sha256,
        "formats": each.report.formats,
        "corrupt": corrupt,
        "transparency_dropped": each.report.transparent,
    }


def _extractor(extractor: Extractor) -> dict[str, Any]:
    return {
        "name": extractor.name,
        "version": extractor.version,
        "weights_sha256": extractor.fingerprint,
        "resize": extractor.mode,
        "precision": extractor.precision,
    }


def _finite(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    from bench.record import fields_of

    return [fields_of(m, "score", "").model_dump(exclude={"source", "protocol"}) for m in measurements]


class _Name:
    """A measurement's name, arrow and unit; where the column is narrow it breaks behind underscores, not within words."""

    def __init__(self, measurement: Measurement) -> None:
        unit = "" if measurement.unit == "1" else f"({measurement.unit})"
        self.parts = re.findall(r"[^_]+_?|_", measurement.name)
        self.parts[-1] = " ".join(filter(None, (self.parts[-1], ARROWS[measurement.direction])))
        self.parts += [f" {unit}"] if unit else []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for part in self.parts:
            if lines[-1] and len(lines[-1]) + len(part) > options.max_width:
                lines.append("")
            lines[-1] += part if lines[-1] else part.lstrip()
        yield Text("\n".join(lines), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Width:
        return Width(max(map(len, self.parts)), sum(map(len, self.parts))).with_maximum(options.max_width)


def _title(scores: Scores) -> str:
    return " against ".join(f"{each.name} ({_size(each)})" for each in (scores.samples, scores.reference))


def _size(each: ImageSet | StatisticsSet) -> str:
    from bench.foreign_statistics import StatisticsSet

    images = f"{len(each):,} images" if len(each) else ""
    return " of ".join(filter(None, ("statistics", images))) if isinstance(each, StatisticsSet) else images


def _interval(measurement: Measurement) -> str:
    if measurement.low is None or measurement.high is None:
        return "none"
    return f"{format_number(measurement.low, 4)} .. {format_number(measurement.high, 4)}"


def _with_half(measurement: Measurement, narrow: bool) -> str:
    """The value and half the width of its interval, where it has one."""
    value = format_number(measurement.value, 3)
    if measurement.low is None or measurement.high is None:
        return value
    half = format_number((measurement.high - measurement.low) / 2, 2)
    return f"{value}\n±{half}" if narrow else f"{value} ±{half}"
