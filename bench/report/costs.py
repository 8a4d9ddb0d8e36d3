"""``costs.md`` and its plots: what a suite's curves say, where it asked for any."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator, Sequence

from bench.record import CurvePoint, MeasurementFields, Record
from bench.report.curves import (
    Point,
    Reached,
    are_apart,
    curve_metrics,
    curve_points,
    final_measurement,
    measurement_at,
    over_runs,
    price_in,
    quality_metric,
    rank_changes,
    ranks_by_share,
    target_of,
    times_to,
    training_curve,
    values_by_share,
)
from bench.report.numbers import MISSING, format_estimate, format_number
from bench.stats.intervals import t_interval, wilson_interval

Runs = list[list[CurvePoint]]

OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "unable to allocate", "alloc_failed", "bad_alloc", "memoryerror",
)  # fmt: skip
"""Words, in small letters, by which a failure for want of memory is known."""

INTERVALS = (
    "Means over seeds with their 95 % t intervals; of two seeds the range, of one its own interval where it has any."
)


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
        yield from _along_training(records, metric)
    if metric and (curves := curve_points(records, "nfe")):
        metrics = curve_metrics(records)
        yield "## Quality by number of sampling steps"
        distances = (f"{name} ↓" for name in metrics)
        header = ("model", "steps", "network evaluations", *distances, "sampling (images/s) ↑", "FLOPs an image ↓")
        yield _table(header, _nfe_rows(curves, metrics))
        yield INTERVALS
    if curves := curve_points(records, "batch"):
        yield "## Sampling speed by batch size"
        yield _table(
            ("model", "batch", "sampling (images/s) ↑", "latency p50 (s) ↓", "p95", "p99"), _batch_rows(curves)
        )
        yield f"{INTERVALS} **Bold**: the fastest batch size."


def _time_to_quality(records: Sequence[Record], metric: str) -> Iterator[str]:
    found = target_of(records, metric)
    if found is None:
        return
    target, origin = found
    yield "## Time to quality"
    yield (
        f"Target: {metric} ≤ {format_number(target, 3)} ({origin}). Reached: runs that did, with the 95 % interval of their share "
        "(Wilson). Seconds of training and of fitting a prior until the first checkpoint that reaches it, and images seen until then: "
        "medians over seeds, runs that never do counting as longer than any. Brackets: the 95 % interval of the median from six seeds "
        "on; of fewer, which have none, the last checkpoint before and the first after, over all seeds. Checkpoints are scored off the clock, with the same number "
        "of samples as the finished model."
    )
    rows = [_reached_row(entry) for entry in times_to(records, metric, target)]
    yield _table(("model", "reached", "seconds ↓", "images ↓", "cost ↓"), rows)
    for priced in dict.fromkeys(_price_said(record) for record in records if price_in(record) is not None):
        yield f"Cost: seconds by the price of the device, {priced}."
    yield (
        "`>`: not reached within the budget. A checkpoint is not what a run with a smaller budget would give: learning-rate schedules "
        "stretch over the whole budget."
    )


def _price_said(record: Record) -> str:
    """The price of the device that a run was on: "3.6 USD an hour, price of 2026-11-01 (...)"."""
    price = price_in(record)
    assert price is not None
    day = datetime.date.fromisoformat(record.started[:10]) if record.started else None
    return f"{price.per_hour:g} {price.currency} an hour, {price.describe(day)}"


def _reached_row(entry: Reached) -> tuple[str, ...]:
    share = wilson_interval(len(entry.brackets), entry.runs)
    reached = f"{len(entry.brackets)} of {entry.runs} ({share.low:.0%} to {share.high:.0%})"
    ends = entry.interval
    if entry.median is None:
        least = f" (95 % interval from {format_number(ends[0], 3)})" if ends else ""
        seconds, cost = f"> {format_number(entry.budget, 3)}{least}", entry.budget
    else:
        low, high = ends or entry.ends
        upper = (
            format_number(high, 3) if high is not None else f"> {format_number(entry.budget, 3)}" if ends else "never"
        )
        seconds, cost = f"{format_number(entry.median, 3)} [{format_number(low, 3)}, {upper}]", entry.median
    half_way = entry.median_images
    images = f"> {entry.budget_images:,.0f}" if half_way is None else f"{half_way:,.0f}"
    money = MISSING
    if entry.price is not None:
        sign = "> " if entry.median is None else ""
        money = f"{sign}{format_number(cost * entry.price.per_hour / 3600, 3)} {entry.price.currency}"
    return entry.model, reached, seconds, images, money


def _ranks(records: Sequence[Record], metric: str) -> Iterator[str]:
    ranks, values = ranks_by_share(records, metric), values_by_share(records, metric)
    if len(ranks) < 2:
        return
    yield "## Rank by budget"
    places = max(len(order) for order in ranks.values())
    rows = [
        (f"{share:.3g}", *(f"{model} ({format_estimate(t_interval(values[share][model]))})" for model, _ in order))
        for share, order in ranks.items()
    ]
    yield _table(("share of the budget", *(f"rank {place + 1}" for place in range(places))), rows)
    said = "; ".join(
        f"{first} overtakes {second} at {share:.3g}"
        + ("" if are_apart(values[share][first], values[share][second]) else " (within noise)")
        for share, first, second in rank_changes(ranks)
    )
    yield (
        f"{said or 'The order is the same at every checkpoint'}. Means over seeds with 95 % t intervals (of two seeds the range). "
        "Within noise: the 95 % interval of the difference (Welch) at that share holds zero."
    )


def _along_training(records: Sequence[Record], metric: str) -> Iterator[str]:
    yield "## Quality along training"
    metrics = curve_metrics(records)
    rows: list[tuple[str, ...]] = []
    for model in dict.fromkeys(record.model for record in records if record.curves.get("training")):
        runs = [record for record in records if record.model == model]
        at: dict[float, list[Point]] = {}
        for point in (point for run in runs for point in training_curve(run, metric)):
            at.setdefault(point.share, []).append(point)
        for share, points in sorted(at.items()):
            flops = [point.flops for point in points if point.flops is not None]
            rows.append(
                (
                    model,
                    f"{share:.3g}",
                    format_number(statistics.fmean(point.seconds for point in points), 3),
                    f"{statistics.fmean(point.images for point in points):,.0f}",
                    f"{statistics.fmean(flops):.3g}" if flops else MISSING,
                    *(format_estimate(over_runs(_at_share(runs, share, name))) for name in metrics),
                )
            )
    yield _table(
        ("model", "share of the budget", "seconds", "images", "FLOPs", *(f"{name} ↓" for name in metrics)), rows
    )
    yield f"{INTERVALS} Seconds, images and FLOPs: spent in training until then, means over seeds."


def _at_share(runs: Sequence[Record], share: float, metric: str) -> list[MeasurementFields]:
    found = [
        final_measurement(run, metric)
        if share == 1
        else next((measurement_at(p, metric) for p in run.curves.get("training", []) if p.at["share"] == share), None)
        for run in runs
    ]
    return [measured for measured in found if measured is not None]


def _nfe_rows(curves: dict[str, Runs], metrics: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for model, steps, points in _aligned(curves, "steps"):
        nfe = [point.at["nfe"] for point in points if "nfe" in point.at]
        flops = over_runs(_at(points, "sampling_flops_per_image"))
        rows.append(
            (
                model,
                f"{steps:g}",
                f"{nfe[0]:g}" if nfe else MISSING,
                *(format_estimate(over_runs(_at(points, name))) for name in (*metrics, "sampling_throughput")),
                f"{flops.value:.3g}" if flops else MISSING,
            )
        )
    return rows


def _batch_rows(curves: dict[str, Runs]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for model in curves:
        mine = list(_aligned({model: curves[model]}, "batch"))
        speeds = [over_runs(_at(points, "sampling_throughput")) for _, _, points in mine]
        best = max((speed.value for speed in speeds if speed is not None), default=None)
        for (_, batch, points), speed in zip(mine, speeds):
            shown = _failed(points) if speed is None else format_estimate(speed)
            tails = (over_runs(_at(points, f"sampling_latency_p{percent}")) for percent in (50, 95, 99))
            rows.append(
                (
                    model,
                    f"{batch:g}",
                    f"**{shown}**" if speed is not None and speed.value == best else shown,
                    *(format_estimate(tail) for tail in tails),
                )
            )
    return rows


def _failed(points: Sequence[CurvePoint]) -> str:
    """Why no run has a speed here: "did not fit" for want of memory, else what the first other failure says."""
    failures = [point.failure for point in points if point.failure is not None]
    others = [failure for failure in failures if not _is_of_memory(failure)]
    if others:
        return f"failed: {others[0]}"
    return "did not fit" if failures else MISSING


def _is_of_memory(failure: str) -> bool:
    """Is this what torch, CUDA, cuBLAS, cuDNN or NumPy say where memory is short?"""
    return any(words in failure.lower() for words in OUT_OF_MEMORY)


def _aligned(curves: dict[str, Runs], key: str) -> Iterator[tuple[str, float, list[CurvePoint]]]:
    """(model, place, the runs' points there)."""
    for model, runs in curves.items():
        for place in sorted({point.at[key] for run in runs for point in run}):
            yield model, place, [point for run in runs for point in run if point.at[key] == place]


def _at(points: Sequence[CurvePoint], metric: str) -> list[MeasurementFields]:
    found = (measurement_at(point, metric) for point in points)
    return [measured for measured in found if measured is not None]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
