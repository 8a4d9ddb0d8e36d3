"""Quality against sampling speed: one picture that says what a model buys and what it costs."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BenchError
from bench.report.columns import Column
from bench.report.labels import place_labels
from bench.report.leaderboard import Leaderboard
from bench.report.standing import Row
from bench.stats.intervals import Estimate
from bench.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, "Color universal design" (2008): told apart with every common colour vision; yellow is left out on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#6e6e6e"


@dataclasses.dataclass(frozen=True)
class Point:
    """One row in the plot. x, y: speed and quality. timed: False for a baseline without speed, shown beside the axis."""

    row: Row
    x: Estimate
    y: Estimate
    colour: str
    marker: str
    timed: bool = True


def quality_speed_figure(board: Leaderboard, quality: str | None = None, speed: str | None = None) -> Figure:
    """Scatter of a quality (rank_by by default) against the sampling throughput, both log axes, with both intervals.

    Filled: trained models, one colour and mark a family; hollow: baselines; the line joins the Pareto front, the band is the
    floor. Rows without both numbers are named below the plot. Raises BenchError where no row has both.
    """
    x_column, y_column = _axes_columns(board, quality, speed)
    points = _points(board, x_column, y_column)
    if not points:
        raise BenchError(f"no model has both '{x_column.name}' and '{y_column.name}'; there is nothing to plot")
    figure = _blank_figure()
    axes = figure.add_axes((0.105, 0.125, 0.875, 0.765))
    _scales(axes, points, board, y_column)
    _frame(axes, board, x_column, y_column, points)
    if {x_column, y_column} == set(board.objectives):
        _front(axes, [p for p in points if p.row.front], x_column, y_column)
    for point in points:
        _draw(axes, point)
    _floor(axes, board, y_column, points)
    place_labels(axes, [(p.x.value, p.y.value, p.row.model, _darker(p.colour)) for p in points])
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a ``png`` (1600 pixels wide, for display at 800) or ``svg`` file; equal figures, equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "gen-bench", "svg.fonttype": "path"}):
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


def write_plot(board: Leaderboard, path: Path) -> int:
    """Write ``path.png`` and ``path.svg``. Returns how many files that were: 0 where there is nothing to plot."""
    try:
        figure = quality_speed_figure(board)
    except BenchError:
        return 0
    for kind in ("png", "svg"):
        write_atomically(path.with_name(f"{path.name}.{kind}"), figure_bytes(figure, kind))
    return 2


def _blank_figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)  # no pyplot: no window system, no global state
    return figure


def _axes_columns(board: Leaderboard, quality: str | None, speed: str | None) -> tuple[Column, Column]:
    y_column = board.column(quality) if quality else board.rank_by
    if y_column is None:
        raise BenchError(f"the results of '{board.dataset}' have no measurement of quality to plot")
    if speed:
        return board.column(speed), y_column
    rates = [c for c in board.columns if c.unit.endswith("/s") and c.metric.startswith("sampling")]
    rates = [c for c in rates if c in board.objectives] or rates
    if not rates:
        raise BenchError(f"the results of '{board.dataset}' have no sampling throughput to plot")
    return rates[0], y_column


def _points(board: Leaderboard, x_column: Column, y_column: Column) -> list[Point]:
    """Rows with both numbers, then baselines without a speed (copying has none worth timing), to the right of all others."""
    families = list(dict.fromkeys(row.family for row in board.rows if row.section in ("ranked", "incomplete")))
    points = []
    for row in board.rows:
        x, y = row.cells.get(x_column), row.cells.get(y_column)
        if row.section == "floor" or x is None or y is None or x.value <= 0:
            continue
        number = families.index(row.family) if row.section != "baseline" else 0
        colour = COLOURS[number % len(COLOURS)] if row.section != "baseline" else GREY
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]  # 49 pairs before one repeats
        points.append(Point(row, x, y, colour, marker if row.section != "baseline" else "o"))
    if not points:
        return []
    aside = Estimate(_strip(points)[1], None, None, 0, "none")
    for row in board.section("baseline"):
        if x_column not in row.cells and y_column in row.cells:
            points.append(Point(row, aside, row.cells[y_column], GREY, "o", timed=False))
    return points


def _strip(points: Sequence[Point]) -> tuple[float, float, float]:
    """(left edge, place of the marks, right edge) of the strip for what is not timed: the right sixth of the axes."""
    speeds = np.log([p.x.value for p in points if p.timed])
    left, edge = speeds.min() - 0.8, speeds.max() + 0.25 * max(4.0, speeds.max() - speeds.min())
    width = (edge - left) / 5
    edge, place, right = np.exp([edge, edge + 0.8 * width, edge + width])
    return float(edge), float(place), float(right)


def _scales(axes: Axes, points: Sequence[Point], board: Leaderboard, y_column: Column) -> None:
    """Log axes; a quality that reaches zero or below (an unbiased distance can) gets an axis that is linear near zero."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator

    axes.set_xscale("log")
    edge, _, right = _strip(points)
    beside = any(not p.timed for p in points)
    axes.set_xlim(min(p.x.value for p in points) / 2.2, right if beside else edge)
    floors = [row.cells[y_column].value for row in board.section("floor") if y_column in row.cells]
    ys = np.array([p.y.value for p in points] + floors)
    if ys.max() <= 1.05 and ys.min() >= 0 and y_column.direction == "higher":
        axes.set_ylim(-0.03, 1.05)  # a share
    elif (ys > 0).all():
        axes.set_yscale("log")
        axes.set_ylim(ys.min() / 1.6, ys.max() * 1.6)
    else:
        trained = [p.y.value for p in points if p.row.section != "baseline" and p.y.value > 0] or [1.0]
        linear = min(trained) / 2
        axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
        axes.set_ylim(ys.min() - 0.2 * min(trained), ys.max() * 1.6)
        ticks = SymmetricalLogLocator(base=10, linthresh=linear, subs=_subs(ys.max() / min(trained)))
        apart = [tick for tick in ticks.tick_values(*axes.get_ylim()) if tick == 0 or abs(tick) >= 0.99 * linear]
        axes.yaxis.set_major_locator(FixedLocator(apart))  # powers of ten within the linear part would lie on zero
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=_subs(high / low)))
        axis.set_major_formatter(FuncFormatter(_tick))
        axis.set_minor_formatter(NullFormatter())


def _subs(span: float) -> tuple[int, ...]:
    """Which multiples of powers of ten get a tick on an axis whose ends differ by the factor ``span``."""
    return (1, 2, 5) if span < 200 else (1,)


def _tick(value: float, _position: int) -> str:
    """``0.02``, ``500``, ``20k``, ``3M``."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:.6g}"


def _floor(axes: Axes, board: Leaderboard, y_column: Column, points: Sequence[Point]) -> None:
    """A line with the band of its interval, labelled at the side that has fewer points near it."""
    for row in board.section("floor"):
        cell = row.cells.get(y_column)
        if cell is None:
            continue
        if cell.low is not None and cell.high is not None and cell.high > cell.low:
            axes.axhspan(cell.low, cell.high, color="#009E73", alpha=0.13, linewidth=0, zorder=0.7)
        axes.axhline(cell.value, color="#009E73", linewidth=1.2, linestyle=(0, (5, 2)), zorder=1, gid="floor line")
        at = axes.transAxes.inverted().transform(axes.transData.transform([(p.x.value, p.y.value) for p in points]))
        near = at[
            np.abs(at[:, 1] - axes.transAxes.inverted().transform(axes.transData.transform((1, cell.value)))[1]) < 0.12
        ]
        right = (near[:, 0] > 0.5).sum() <= (near[:, 0] <= 0.5).sum()
        axes.annotate(
            "floor: real train vs test", (1 if right else 0, cell.value), xycoords=("axes fraction", "data"),
            xytext=(-4 if right else 5, 3), textcoords="offset points", ha="right" if right else "left", va="bottom", fontsize=9,
            color="#00664b", zorder=5, gid="floor",
        )  # fmt: skip


def _draw_strip(axes: Axes, edge: float, place: float, right: float) -> None:
    """A strip for what is not timed: no ticks, no grid."""
    from matplotlib.ticker import FixedLocator

    axes.axvspan(edge, right, color="#f3f3f3", linewidth=0, zorder=0.6)
    axes.xaxis.set_major_locator(FixedLocator([t for t in axes.xaxis.get_majorticklocs() if t < edge]))
    axes.xaxis.set_minor_locator(FixedLocator([t for t in axes.xaxis.get_minorticklocs() if t < edge]))
    axes.set_xlim(axes.get_xlim()[0], right)
    axes.annotate(
        "not timed", (np.sqrt(edge * right), 0), xycoords=("data", "axes fraction"), xytext=(0, -7), textcoords="offset points",
        ha="center", va="top", fontsize=9, color=GREY, gid="aside", annotation_clip=False,
    )  # fmt: skip


def _front(axes: Axes, front: Sequence[Point], x_column: Column, y_column: Column) -> None:
    """A staircase through the front: what lies behind it is bought more cheaply by one of its points."""
    signs = [1 if column.direction == "higher" else -1 for column in (x_column, y_column)]
    steps: list[Point] = []
    for point in sorted(front, key=lambda p: (signs[0] * p.x.value, signs[1] * p.y.value), reverse=True):
        if not steps or signs[1] * point.y.value > signs[1] * steps[-1].y.value:
            steps.append(point)
    if len(steps) > 1:
        x, y = [p.x.value for p in steps], [p.y.value for p in steps]
        axes.step(x, y, where="post", color="#b8b8b8", linewidth=1.6, zorder=1, gid="front")


def _draw(axes: Axes, point: Point) -> None:
    hollow = point.row.section != "ranked"
    layer = 3 if hollow else 4
    axes.errorbar(
        point.x.value, point.y.value, xerr=_error(point.x), yerr=_error(point.y), fmt="none", ecolor=point.colour, elinewidth=1.2,
        capsize=2.5, capthick=1.2, zorder=layer,
    )  # fmt: skip
    axes.plot(
        point.x.value, point.y.value, marker=point.marker, linestyle="none", zorder=layer, gid="hollow" if hollow else "filled",
        markersize=6.5 if point.row.section == "baseline" else 7.5 if point.marker in "osD" else 9.5,
        markerfacecolor="white" if hollow else point.colour, markeredgecolor=point.colour if hollow else "white",
        markeredgewidth=1.5 if hollow else 0.7,
    )  # fmt: skip


def _darker(colour: str) -> tuple[float, float, float]:
    """For text: the light ones of the palette are too pale on white in thin strokes."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return 0.78 * red, 0.78 * green, 0.78 * blue


def _error(cell: Estimate) -> list[list[float]] | None:
    if cell.low is None or cell.high is None:
        return None
    return [[max(0.0, cell.value - cell.low)], [max(0.0, cell.high - cell.value)]]


def _frame(axes: Axes, board: Leaderboard, x_column: Column, y_column: Column, points: Sequence[Point]) -> None:
    """Titles, axis labels, grid."""
    better = {"lower": "lower is better", "higher": "higher is better"}.get(y_column.direction, "")
    figure = axes.figure
    figure.text(
        0.105, 0.955, f"{board.dataset}: quality against sampling speed", fontsize=13, fontweight="bold", va="center"
    )
    said = (
        ["mean and 95 % interval over seeds"]
        if len(board.seeds) > 2
        else ["fewer than 3 seeds: bars are no seed intervals"]
    )
    said += ["grey: Pareto front"] if sum(p.row.front for p in points) > 1 else []
    said += ["hollow: not ranked"] if any(p.row.section != "ranked" for p in points) else []
    said += ["linear near zero"] if axes.get_yscale() == "symlog" else []
    figure.text(0.105, 0.912, "; ".join(said), fontsize=9, color=GREY, va="center")
    y_unit = "" if y_column.unit == "1" else f", {y_column.unit}"
    axes.set_ylabel(f"{y_column.name}{y_unit}  ({y_column.arrow} {better})", fontsize=10)
    axes.set_xlabel(
        f"{x_column.name.replace('_', ' ')}, {x_column.unit}  ({x_column.arrow} higher is better)", fontsize=10
    )
    if not all(p.timed for p in points):
        _draw_strip(axes, *_strip(points))
    axes.grid(True, which="major", color="#ebebeb", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, which="both", color="#b0b0b0")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b0b0b0")
    missing = [row.model for row in board.rows if row.section != "floor" and row not in [p.row for p in points]]
    if missing:
        figure.text(
            0.98, 0.012, f"without both numbers: {', '.join(missing)}", fontsize=8, color=GREY, ha="right", va="bottom"
        )
