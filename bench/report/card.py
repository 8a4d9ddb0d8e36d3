"""One record, readable: what was measured, on what, how it went and what to be wary of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.record import extractor_names
from bench.report.columns import GROUPS, Column
from bench.report.numbers import MISSING, format_estimate, format_number
from bench.stats.intervals import Estimate

_STATUS_STYLES = {"complete": "green", "failed": "red", "diverged": "red"}
_BARS = "▁▂▃▄▅▆▇█"


def record_card(record: Mapping[str, Any]) -> RenderableType:
    """The card of one record (a dict as in ``records.jsonl``) for a terminal."""
    status = Text(str(record["status"]), style=_STATUS_STYLES.get(str(record["status"]), "yellow"))
    title = Text.assemble(
        (f"{record['model']}", "bold"), f" on {record['dataset']}, seed {record['seed']}: ", status
    )  # fmt: skip
    parts: list[RenderableType] = [title]
    if record.get("reason"):
        parts.append(Text(f"reason: {record['reason']}", style="red"))
    parts += [_facts(_about(record)), *_measurement_tables(record.get("measurements", []))]
    losses = record.get("training", {}).get("losses") or {}
    if losses:
        parts.append(Text())
        parts.append(_facts({f"{name} over training": _course(values) for name, values in losses.items()}))
    warnings = _warnings(record)
    if warnings:
        parts += [
            Text("warnings", style="bold yellow"),
            *(Text(f"  {warning}", style="yellow") for warning in warnings),
        ]
    return Group(*parts)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The course of a series as blocks: means of equal parts, lowest to highest value of the series."""
    import numpy as np

    finite = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=float)
    if not finite.size:
        return ""
    parts = np.array([part.mean() for part in np.array_split(finite, min(width, finite.size))])
    span = float(np.ptp(parts))
    levels = np.zeros(parts.size, dtype=int) if span == 0 else ((parts - parts.min()) / span * 7).round().astype(int)
    return "".join(_BARS[level] for level in levels)


def _about(record: Mapping[str, Any]) -> dict[str, str]:
    """Label -> text of everything but the measurements; what a record does not have is left out."""
    config, training, provenance = (record.get(key) or {} for key in ("config", "training", "provenance"))
    hardware, versions, git = (provenance.get(key) or {} for key in ("hardware", "versions", "git"))
    where = hardware.get("gpu") or hardware.get("cpu")
    found = {
        "trial": record.get("trial"),
        "suite": record.get("suite"),
        "family": record.get("family"),
        "role": record.get("role"),
        "budget": ", ".join(f"{amount:g} {unit}" for unit, amount in (record.get("budget") or {}).items()),
        "trained": _trained(training),
        "precision": training.get("precision"),
        "energy": training.get("energy"),
        "FLOPs": _counting(training),
        "capabilities": ", ".join(training.get("capabilities") or []),
        "options": ", ".join(f"{k} = {v}" for k, v in (config.get("model_config_") or {}).items()),
        "samples": config.get("samples"),
        "extractor": " ".join(p for p in (extractor_names(config), training.get("extractor_version")) if p),
        "seconds": ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in (record.get("seconds") or {}).items()),
        "started": record.get("started"),
        "device": where and f"{where}, {hardware.get('cores', '?')} cores, {provenance.get('threads', '?')} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "code": git.get("commit") and f"{git['commit'][:12]}{' with uncommitted changes' if git.get('dirty') else ''}",
        "environment": record.get("environment"),
        **{f"{name} SHA-256": digest for name, digest in (record.get("artifacts") or {}).items()},
    }
    return {label: str(text) for label, text in found.items() if text not in (None, "", [])}


def _trained(training: Mapping[str, Any]) -> str:
    said = [f"{training[key]:,} {key}" for key in ("steps", "images") if training.get(key) is not None]
    return ", ".join(said)


def _counting(training: Mapping[str, Any]) -> str:
    """By phase, what the count of FLOPs leaves out or why there is none; empty where nothing is to be said."""
    said = []
    for phase, found in (training.get("flops") or {}).items():
        if isinstance(found, str):
            said.append(f"{phase} {found}")
        elif unknown := found.get("unknown"):
            calls = ", ".join(f"{name} ({number:,} calls)" for name, number in unknown.items())
            said.append(f"{phase} without a formula for {calls}")
    return "; ".join(said)


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts.items():
        table.add_row(Text(label), Text(text))
    return table


def _measurement_tables(measurements: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """One table a group, in the order of the leaderboard's groups."""
    tables: list[RenderableType] = []
    for group in GROUPS:
        members = [(m, column) for m in measurements if (column := _column(m)).group == group]
        if not members:
            continue
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 2, 0, 0),
            title=group,
            title_justify="left",
            title_style="bold",
        )
        for name in ("measurement", "value", "95 % interval", "unit", "n", "interval by"):
            table.add_column(name, justify="right" if name in ("value", "n", "95 % interval") else "left")
        for measurement, column in sorted(members, key=lambda pair: (pair[1].importance, pair[1].name)):
            table.add_row(*(Text(text) for text in _line(measurement, column)))
        tables += [Text(), table]
    return tables


def _column(measurement: Mapping[str, Any]) -> Column:
    return Column(
        measurement["name"],
        measurement.get("protocol", ""),
        None,
        measurement.get("unit", "1"),
        measurement.get("direction", "none"),
    )


def _line(measurement: Mapping[str, Any], column: Column) -> list[str]:
    value, low, high = (measurement.get(key) for key in ("value", "low", "high"))
    interval, method, n = "none", str(measurement.get("interval") or ""), measurement.get("n")
    if value is None:
        text = MISSING
    elif method == "exact" or low is None or high is None:
        text, interval = format_number(value, 4), "exact" if method == "exact" else "none"
    else:
        # Reuse the table's rounding: the value and both ends to the place that the interval decides.
        shown = format_estimate(Estimate(value, low, high, n or 0, "min-max"))
        text, _, ends = shown.partition(" [")
        interval = f"[{ends}" if ends else "exact"
    unit = "" if column.unit == "1" else column.unit
    return [
        f"{column.name} {column.arrow}".strip(),
        text,
        interval,
        unit,
        "" if n is None else f"{n:,}",
        "" if method == "exact" else method,
    ]


def _course(values: Sequence[float]) -> str:
    first, last = (format_number(values[i], 3) for i in (0, -1)) if values else ("", "")
    return f"{first} {sparkline(values)} {last}"


def _warnings(record: Mapping[str, Any]) -> list[str]:
    """Notes of the measurements, one line a note; plus what makes the record weak evidence."""
    notes: dict[str, list[str]] = {}
    for measurement in record.get("measurements", []):
        if measurement.get("note"):
            notes.setdefault(str(measurement["note"]), []).append(str(measurement["name"]))
    found = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
    if (record.get("provenance") or {}).get("git", {}).get("dirty"):
        found.append("the code had uncommitted changes: its commit does not identify it")
    return found
