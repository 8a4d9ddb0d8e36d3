"""``costs.md`` and its plots: what a suite's curves say, where it asked for any."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench.record import CurvePoint, Record
from bench.report.curves import (
    Reached,
    curve_points,
    quality_metric,
    rank_changes,
    ranks_by_share,
    target_of,
    times_to,
    value_at,
)
from bench.report.numbers import format_number


def costs_markdown(records: Sequence[Record]) -> str | None:
    """Tables of every data set; None where no record has a curve."""
    parts: list[str] = []
    for dataset in dict.fromkeys(record.dataset for record in records if record.curves):
        here = [record for record in records if record.dataset == dataset]
        parts += [f"# {dataset}: costs along curves (suite {here[0].suite})", *_sections(here)]
    return "\n\n".join(parts) + "\n" if parts else None


def _sections(records: Sequence[Record]) -> Iterator[str]:
    metric = quality_metric(records)
    if metric and any(record.curves.get("training") for record in records):
        yield from _time_to_quality(records, metric)
        yield from _ranks(records, metric)
    if metric and (curves := curve_points(records, "nfe")):
        yield "## Quality by number of sampling steps"
        yield _table(
            ("model", "steps", "network evaluations", f"{metric} ↓", "sampling (images/s) ↑"), _nfe_rows(curves, metric)
        )
        yield "Mean over seeds."
    if curves := curve_points(records, "batch"):
        yield "## Sampling speed by batch size"
        yield _table(
            ("model", "batch", "sampling (images/s) ↑", "latency p50 (s) ↓", "p95", "p99"), _batch_rows(curves)
        )
        yield "Median over seeds. **Bold**: the fastest batch size."


def _time_to_quality(records: Sequence[Record], metric: str) -> Iterator[str]:
    target, origin = target_of(records, metric)
    yield "## Time to quality"
    yield (
        f"Target: {metric} ≤ {format_number(target, 3)} ({origin}). Seconds of training and of fitting a prior until the first "
        "checkpoint that reaches it, median over seeds; brackets: the last checkpoint before and the first after, over all seeds. "
        "Checkpoints are scored off the clock, with the same number of samples as the finished model."
    )
    rows = [_reached_row(entry) for entry in times_to(records, metric, target)]
    yield _table(("model", "reached", "seconds ↓", "images ↓", "cost ↓"), rows)
    yield (
        "`>`: not reached within the budget. A checkpoint is not what a run with a smaller budget would give: learning-rate schedules "
        "stretch over the whole budget."
    )


def _reached_row(entry: Reached) -> tuple[str, ...]:
    low, high = entry.ends
    if entry.median is None:
        seconds, cost = f"> {format_number(entry.budget, 3)}", entry.budget
        images = "–"
    else:
        upper = format_number(high, 3) if high is not None else "never"
        seconds, cost = f"{format_number(entry.median, 3)} [{format_number(low, 3)}, {upper}]", entry.median
        images = f"{statistics.median(entry.images):,.0f}"
    money = "–"
    if entry.price is not None:
        sign = "> " if entry.median is None else ""
        money = f"{sign}{format_number(cost * entry.price.per_hour / 3600, 3)} {entry.price.currency}"
    return entry.model, f"{len(entry.brackets)}/{entry.runs}", seconds, images, money


def _ranks(records: Sequence[Record], metric: str) -> Iterator[str]:
    ranks = ranks_by_share(records, metric)
    if len(ranks) < 2:
        return
    yield "## Rank by budget"
    places = max(len(order) for order in ranks.values())
    rows = [
        (f"{share:.3g}", *(f"{model} ({format_number(value, 3)})" for model, value in order))
        for share, order in ranks.items()
    ]
    yield _table(("share of the budget", *(f"rank {place + 1}" for place in range(places))), rows)
    changes = rank_changes(ranks)
    said = "; ".join(f"{first} overtakes {second} at {share:.3g}" for share, first, second in changes)
    yield f"{said or 'The order is the same at every checkpoint'}. Means over seeds, without regard to their intervals."


def _nfe_rows(curves: dict[str, list[list[CurvePoint]]], metric: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for model, steps, points in _aligned(curves, "steps"):
        nfe = [point.at["nfe"] for point in points if "nfe" in point.at]
        rows.append(
            (
                model,
                f"{steps:g}",
                f"{nfe[0]:g}" if nfe else "–",
                _mean(points, metric),
                _mean(points, "sampling_throughput"),
            )
        )
    return rows


def _batch_rows(curves: dict[str, list[list[CurvePoint]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for model in curves:
        mine = list(_aligned({model: curves[model]}, "batch"))
        speeds = [_median(points, "sampling_throughput") for _, _, points in mine]
        best = max((speed for speed in speeds if speed is not None), default=None)
        for (_, batch, points), speed in zip(mine, speeds):
            shown = "did not fit" if speed is None else format_number(speed, 3)
            tails = (_median(points, f"sampling_latency_p{percent}") for percent in (50, 95, 99))
            rows.append(
                (
                    model,
                    f"{batch:g}",
                    f"**{shown}**" if speed is not None and speed == best else shown,
                    *("–" if tail is None else format_number(tail, 3) for tail in tails),
                )
            )
    return rows


def _aligned(curves: dict[str, list[list[CurvePoint]]], key: str) -> Iterator[tuple[str, float, list[CurvePoint]]]:
    """(model, place, the runs' points there)."""
    for model, runs in curves.items():
        for place in sorted({point.at[key] for run in runs for point in run}):
            yield model, place, [point for run in runs for point in run if point.at[key] == place]


def _mean(points: Sequence[CurvePoint], metric: str) -> str:
    values = [value for point in points if (value := value_at(point, metric)) is not None]
    return format_number(statistics.fmean(values), 3) if values else "–"


def _median(points: Sequence[CurvePoint], metric: str) -> float | None:
    values = [value for point in points if (value := value_at(point, metric)) is not None]
    return statistics.median(values) if values else None


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
