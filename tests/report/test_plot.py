"""The quality-against-speed plot: what it draws, that labels stay readable, and that equal results give equal files."""

import io
import itertools
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from bench.errors import BenchError
from bench.report.leaderboard import leaderboard
from bench.report.plot import figure_bytes, quality_speed_figure, write_plot

from .results import COVERAGE, FD, KID, MEMORY, SPEED, example, failure, frame, rows


def texts(figure, gid):
    return [text for text in figure.axes[0].texts if text.get_gid() == gid]


def crowd(count, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(count):
        kid, speed = np.exp(rng.normal(-4, 0.6)), np.exp(rng.normal(7, 0.7))
        noise = np.exp(rng.normal(0, 0.05, (2, 3)))
        parts.append(
            rows(f"model-{i}", {KID: list(kid * noise[0]), SPEED: list(speed * noise[1])}, family=f"family {i % 9}")
        )
    return frame(rows("floor", {KID: ([0.001] * 3, [0.0004] * 3)}, role="floor"), *parts)


def test_every_model_with_both_numbers_is_drawn_where_its_numbers_are():
    board = leaderboard(example())
    axes = quality_speed_figure(board).axes[0]
    marks = {line.get_gid(): set() for line in axes.lines}
    for line in axes.lines:
        marks[line.get_gid()].add((float(line.get_xdata()[0]), float(line.get_ydata()[0])))

    def at(*models):
        return {tuple(board.row(m).cells[board.column(c)].value for c in (SPEED, KID)) for m in models}

    assert marks["filled"] == at("ddpm", "flow", "gan", "vae")
    assert marks["hollow"] == at("wgan", "copy-train", "noise")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in texts(axes.figure, "floor")] == ["floor: real train vs test"]
    [front] = [line for line in axes.lines if line.get_gid() == "front"]
    assert sorted(zip(front.get_xdata(), front.get_ydata())) == sorted(at("flow", "gan"))


def test_error_bars_are_the_intervals():
    board = leaderboard(example())
    axes = quality_speed_figure(board).axes[0]
    ends = {
        tuple(np.round(segment.ravel(), 9))
        for bar in axes.containers
        for part in bar[2]
        for segment in part.get_segments()
    }
    cells = board.row("ddpm").cells
    speed, kid = cells[board.column(SPEED)], cells[board.column(KID)]
    assert tuple(np.round([speed.value, kid.low, speed.value, kid.high], 9)) in ends
    assert tuple(np.round([speed.low, kid.value, speed.high, kid.value], 9)) in ends


@pytest.mark.parametrize("seed", range(3))
def test_labels_do_not_cover_each_other_and_stay_inside(seed):
    figure = quality_speed_figure(leaderboard(crowd(12, seed)))
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(text, renderer) for text in texts(figure, "label") + texts(figure, "floor")]
    assert len(boxes) == 13  # without their leader lines
    shared = [a.intersection(a, b) for a, b in combinations(boxes, 2)]
    assert (
        max((box.width * box.height for box in shared if box is not None), default=0)
        < 0.02 * boxes[0].width * boxes[0].height
    )
    frame_box = figure.axes[0].get_window_extent(renderer)
    assert all(frame_box.x0 - 1 <= box.x0 and box.x1 <= frame_box.x1 + 1 for box in boxes)


def test_files_are_as_large_as_said_and_equal_for_equal_results():
    first, second = (quality_speed_figure(leaderboard(example())) for _ in range(2))
    png = figure_bytes(first, "png")
    assert Image.open(io.BytesIO(png)).size == (1600, 1000)
    assert png == figure_bytes(second, "png")
    svg = figure_bytes(first, "svg")
    assert svg == figure_bytes(second, "svg")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_distances_at_or_below_zero_are_drawn():
    parts = (
        rows("floor", {KID: ([-0.0001] * 3, [0.0005] * 3)}, role="floor"),
        rows("a", {KID: [0.01, 0.02, 0.03], SPEED: [9, 10, 11]}),
    )
    axes = quality_speed_figure(leaderboard(frame(*parts))).axes[0]
    assert axes.get_yscale() == "symlog"
    low, high = axes.get_ylim()
    assert low < -0.0001 < 0.02 < high
    figure = axes.figure
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    boxes = sorted(
        (box for box in boxes if axes.bbox.y0 <= box.y0 + box.height / 2 <= axes.bbox.y1), key=lambda box: box.y0
    )
    assert len(boxes) >= 2
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes)), "no label lies on another"


def test_other_axes_can_be_chosen():
    figure = quality_speed_figure(leaderboard(example()), quality=COVERAGE, speed=SPEED)
    axes = figure.axes[0]
    assert (axes.get_yscale(), axes.get_ylim()) == ("linear", (-0.03, 1.05))
    assert "higher is better" in axes.get_ylabel()
    assert not [
        line for line in axes.lines if line.get_gid() == "front"
    ]  # the front is one of kernel distance and speed
    assert MEMORY in quality_speed_figure(leaderboard(example()), quality=MEMORY).axes[0].get_ylabel()


def test_rows_without_both_numbers_are_named():
    board = leaderboard(
        frame(rows("a", {KID: [1, 2, 3], SPEED: [1, 2, 3]}), rows("b", {KID: [1, 2, 3]}), failure("c", 0))
    )
    assert "without both numbers: b, c" in {text.get_text() for text in quality_speed_figure(board).texts}


def test_nothing_to_plot_is_one_sentence():
    with pytest.raises(BenchError, match="no sampling throughput"):
        quality_speed_figure(leaderboard(frame(rows("a", {KID: [1, 2, 3]}))))
    with pytest.raises(BenchError, match="no measurement of quality"):
        quality_speed_figure(leaderboard(frame(failure("a", 0))))
    with pytest.raises(BenchError, match="no model has both"):
        quality_speed_figure(leaderboard(frame(rows("a", {KID: [1, 2, 3]}), rows("b", {SPEED: [1, 2, 3]}))))
    with pytest.raises(BenchError, match="did you mean 'fd_effnetlite0'"):
        quality_speed_figure(leaderboard(example()), quality=FD + "_")


def test_baselines_without_a_speed_stand_in_their_own_strip():
    table = example()
    board = leaderboard(table[~((table.role == "baseline") & (table.metric == SPEED))])
    figure = quality_speed_figure(board)
    axes = figure.axes[0]
    marks = {line.get_gid(): [] for line in axes.lines}
    for line in axes.lines:
        marks[line.get_gid()].append((float(line.get_xdata()[0]), float(line.get_ydata()[0])))
    fastest = max(x for x, _ in marks["filled"])
    aside = [(x, y) for x, y in marks["hollow"] if x > 2 * fastest]
    assert sorted(y for _, y in aside) == [board.row(m).cells[board.column(KID)].value for m in ("copy-train", "noise")]
    assert all(tick < min(x for x, _ in aside) for tick in axes.get_xticks())
    assert [text.get_text() for text in texts(figure, "aside")] == ["not timed"]
    assert not [text for text in figure.texts if "without both" in text.get_text()]


def test_write_plot_writes_both_files_or_none(tmp_path):
    assert write_plot(leaderboard(example()), tmp_path / "results" / "plot.v1") == 2
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["plot.v1.png", "plot.v1.svg"]
    assert write_plot(leaderboard(frame(failure("a", 0))), tmp_path / "none") == 0
    assert not (tmp_path / "none.png").exists()
