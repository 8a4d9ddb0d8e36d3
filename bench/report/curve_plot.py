"""Quality against seconds, images and FLOPs of training, or network evaluations of sampling: one line a model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record import Record
from bench.report.curves import curve_points, quality_metric, training_curve, value_at
from bench.report.plot import COLOURS, GREY, MARKERS, figure_bytes
from bench.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = list[tuple[float, float, float, float]]
"""(x, mean, lowest, highest) over the runs of a model."""


def write_curve_plots(records: Sequence[Record], folder: Path) -> int:
    """Write the plots of every data set with curves; returns how many files that were."""
    count = 0
    for dataset in dict.fromkeys(record.dataset for record in records if record.curves):
        here = [record for record in records if record.dataset == dataset]
        metric = quality_metric(here)
        if metric is None:
            continue
        for name, lines, label in (
            ("quality_vs_time", _training_lines(here, metric, "seconds"), "seconds of training"),
            ("quality_vs_images", _training_lines(here, metric, "images"), "images seen in training"),
            ("quality_vs_flops", _training_lines(here, metric, "flops"), "FLOPs of training"),
            ("quality_vs_nfe", _nfe_lines(here, metric), "network evaluations a sample"),
        ):
            if lines:
                figure = curve_figure(lines, f"{dataset}: {metric} (lower is better)", label, metric)
                for kind in ("png", "svg"):
                    write_atomically(folder / f"{name}_{dataset}.{kind}", figure_bytes(figure, kind))
                    count += 1
    return count


def curve_figure(lines: dict[str, Line], title: str, x_label: str, y_label: str) -> Figure:
    """Means over seeds with the range of the runs; logarithmic in x, and in y where all values are positive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.105, 0.125, 0.875, 0.765))
    for number, (model, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        x, mean, low, high = zip(*line)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=5, label=model, gid=model)
    axes.set_xscale("log")
    if all(low > 0 for line in lines.values() for _, _, low, _ in line):
        axes.set_yscale("log")
    figure.text(0.105, 0.955, title, fontsize=13, fontweight="bold", va="center")
    figure.text(
        0.105,
        0.912,
        "mean over seeds; band: lowest to highest seed, not a 95 % interval",
        fontsize=9,
        color=GREY,
        va="center",
    )
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=10)
    axes.grid(True, which="major", color="#ebebeb", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _training_lines(records: Sequence[Record], metric: str, spent: str) -> dict[str, Line]:
    """Points of equal share of the budget are averaged in both directions. spent: seconds | images | flops; models whose FLOPs were
    not counted have no line over them."""
    at: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for record in records:
        if record.curves.get("training"):
            for point in training_curve(record, metric):
                x = getattr(point, spent)
                if x is not None:
                    at.setdefault(record.model, {}).setdefault(point.share, []).append((x, point.value))
    return {model: [_summary(places) for _, places in sorted(shares.items())] for model, shares in at.items()}


def _nfe_lines(records: Sequence[Record], metric: str) -> dict[str, Line]:
    lines = {}
    for model, runs in curve_points(records, "nfe").items():
        at: dict[float, list[tuple[float, float]]] = {}
        for point in (point for run in runs for point in run):
            value = value_at(point, metric)
            if value is not None and "nfe" in point.at:
                at.setdefault(point.at["nfe"], []).append((point.at["nfe"], value))
        if at:
            lines[model] = [_summary(places) for _, places in sorted(at.items())]
    return lines


def _summary(places: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    values = [value for _, value in places]
    return statistics.fmean(x for x, _ in places), statistics.fmean(values), min(values), max(values)
