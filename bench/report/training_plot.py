"""Training as it was watched, a panel a model: do its samples stay as varied as the data, and who wins the game?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record import Record
from bench.report.plot import COLOURS, GREY, figure_bytes
from bench.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERSITY, ADVANTAGE, COLLAPSED = COLOURS[0], COLOURS[4], COLOURS[1]
ACROSS = 5  # panels a row
SMOOTH = 12  # points that the course of a game is averaged to, so that lines can be told apart


def write_training_plots(records: Sequence[Record], folder: Path) -> int:
    """``training_DATASET.png`` and ``.svg`` of every data set whose training was watched; returns how many files that were."""
    count = 0
    for dataset in dict.fromkeys(record.dataset for record in records):
        watched: dict[str, list[Record]] = {}
        for record in records:
            if record.dataset == dataset and looks(record):
                watched.setdefault(record.model, []).append(record)
        if watched:
            figure = training_figure(watched, dataset)
            for kind in ("png", "svg"):
                write_atomically(folder / f"training_{dataset}.{kind}", figure_bytes(figure, kind))
                count += 1
    return count


def looks(record: Record) -> list[dict[str, float]]:
    """What was seen of the samples during training: ``step``, ``diversity``, ``collapsed`` and the evidence, look by look; nothing
    where the model was not watched to the end."""
    diagnostics = record.training.get("diagnostics") or {}
    return [] if diagnostics.get("collapse_not_watched") else list(diagnostics.get("collapse") or [])


def advantages(record: Record) -> list[float]:
    """How often the discriminator scored a real example above a fake one, over training; empty for a model that plays no game."""
    course = record.training.get("losses", {}).get("advantage") or []
    return [float(value) for value in course if value is not None]


def training_figure(watched: dict[str, list[Record]], dataset: str) -> Figure:
    """watched: model -> its records. One panel each; one line a seed; a cross wherever a look found a collapse."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(ACROSS, len(watched))
    down = math.ceil(len(watched) / across)
    height = 2.1 * down + 1.5
    figure = Figure(figsize=(max(2.3 * across, 7.0), height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    figure.subplots_adjust(0.08, 0.62 / height, 0.985, 1 - 1.12 / height, 0.1, 0.32)
    for axes, (model, records) in zip(panels, watched.items()):
        _panel(axes, model, records)
    for axes in panels[len(watched) :]:
        axes.set_visible(False)
    _words(figure, dataset, height)
    return figure


def _panel(axes: Axes, model: str, records: Sequence[Record]) -> None:
    for record in records:
        seen, last = looks(record), record.training.get("steps") or 1
        at = [100 * look["step"] / last for look in seen]
        axes.plot(at, [look["diversity"] for look in seen], color=DIVERSITY, linewidth=1.3)
        bad = [(x, look["diversity"]) for x, look in zip(at, seen) if look["collapsed"]]
        axes.plot([x for x, _ in bad], [y for _, y in bad], "x", color=COLLAPSED, markersize=6, markeredgewidth=1.8)
        game = _averaged(advantages(record))
        axes.plot([100 * (i + 0.5) / len(game) for i in range(len(game))], game, color=ADVANTAGE, linewidth=1.1)
    axes.axhline(1, color=GREY, linewidth=0.7, linestyle=":")
    axes.set_title(model, fontsize=8.5, loc="left", pad=3)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 1.6)
    axes.tick_params(labelsize=7.5)
    axes.tick_params(labelbottom=True)
    axes.grid(True, color="#ebebeb", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _averaged(course: Sequence[float]) -> list[float]:
    """Means of ``SMOOTH`` equal parts."""
    parts = min(SMOOTH, len(course))
    cuts = [round(i * len(course) / parts) for i in range(parts + 1)] if parts else []
    return [math.fsum(course[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]


def _words(figure: Figure, dataset: str, height: float) -> None:
    figure.text(0.02, 1 - 0.25 / height, f"{dataset}: training, watched", fontsize=12, fontweight="bold", va="center")
    entries = (
        ("variety of the samples over the data's (1: as varied)", DIVERSITY),
        ("discriminator's advantage (1: it has won)", ADVANTAGE),
        ("x  collapsed at this look", COLLAPSED),
    )
    for number, (text, colour) in enumerate(entries):
        figure.text(0.02, 1 - (0.47 + 0.17 * number) / height, text, fontsize=8, color=colour, va="center")
    figure.text(0.02, 0.16 / height, "x axis: per cent of the training; one line a seed", fontsize=8, color=GREY)
