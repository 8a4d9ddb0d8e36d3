"""Leaderboards as Markdown (parsed by markdown-it as GitHub would), CSV and terminal text."""

import io
import subprocess
import sys

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from bench.record import Measurement, fields_of
from bench.report.footnotes import footnotes, warnings, won_by_baselines
from bench.report.leaderboard import leaderboard, leaderboards
from bench.report.markdown import board_markdown, escape, leaderboard_csv, leaderboard_markdown
from bench.report.terminal import leaderboard_renderable
from bench.report.write import setting

from .results import BITS, COLLAPSED, COVERAGE, FD, KID, MONEY, SPEED, example, failure, frame, rows
from .test_card import record


def tables(markdown):
    """Every table as rows of cell texts."""
    found, row = [], []
    for token in MarkdownIt("js-default", {"html": True}).parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
        elif token.type == "inline" and found and token.level >= 3:
            row.append(token.content)
        elif token.type == "tr_close":
            found[-1].append(row)
            row = []
    return found


def shown(board, width=120):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(leaderboard_renderable(board, width))
    return console.file.getvalue()


def test_the_first_table_holds_every_row_in_order_with_ranks_intervals_units_and_arrows():
    first = tables(board_markdown(leaderboard(example())))[0]
    head = first[0]
    assert head[:6] == ["rank", "", "model", "seeds", "mean rank", "P(best)"]
    assert "`kid_effnetlite0` ↓<br>(10⁻³)" in head
    assert "`sampling_throughput` ↑<br>(images/s)" in head
    assert [row[2].strip("*") for row in first[1:]] == [
        "floor (real train images vs test)", "ddpm", "flow", "gan", "vae", "not ranked: incomplete", "wgan",
        "baselines, not ranked", "copy-train", "noise",
    ]  # fmt: skip
    by_model = {row[2].strip("*"): dict(zip(head, row)) for row in first[1:]}
    assert by_model["ddpm"]["rank"] == "1–2"
    assert by_model["ddpm"]["`kid_effnetlite0` ↓<br>(10⁻³)"] == "11.0 ± 2.5"
    assert by_model["gan"]["`sampling_throughput` ↑<br>(images/s)"] == "**9100 ± 250**"
    assert by_model["wgan"]["seeds"] == "2/3: 1 diverged"
    assert {len(row) for row in first} == {len(head)}


def test_every_column_is_somewhere_in_the_file():
    extra = frame(rows("a", {KID: [1, 2, 3], FD: [1, 2, 3], COVERAGE: [1, 2, 3], SPEED: [1, 2, 3], BITS: [1, 2, 3]}))
    wide = pd.concat([extra, extra.assign(metric=extra.metric + "_mid")])
    board = leaderboard(wide)
    text = board_markdown(board)
    assert len(board.columns) == 10
    assert len(tables(text)[0][0]) == 6 + 7  # rank, front, model, seeds, mean rank, P(best) and the key columns
    assert all(f"`{column.metric}`" in text.split("<details>")[1] for column in board.columns)


def test_several_data_sets_are_sections_of_one_file():
    both = frame(rows("a", {KID: [1, 2, 3]}), rows("a", {KID: [1, 2, 3]}, dataset="mnist"))
    text = leaderboard_markdown(leaderboards(both), {board.dataset: {"device": "cpu"} for board in leaderboards(both)})
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## digits (suite quick)",
        "## mnist (suite quick)",
    ]
    assert text.count("Device: cpu") == 2


def test_hostile_text_stays_text():
    reason = "<script>alert(1)</script> | [x](http://evil) `a` *b* _c_\nsecond line"
    text = board_markdown(leaderboard(frame(rows("a", {KID: [1, 2, 3]}), failure("b", 0, reason=reason))))
    html = MarkdownIt("js-default", {"html": True, "linkify": False}).render(text)
    assert "<script" not in html
    assert "<a " not in html
    assert "<em>" not in html.replace("<em><strong>not ranked: incomplete</strong></em>", "")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x](http://evil) `a` *b* _c_ second line." in html
    assert escape("kid_effnetlite0 [1.0, 2.0]") == "kid_effnetlite0 [1.0, 2.0]"


def test_a_price_is_said_with_its_day_before_all_warnings():
    price = "price of 2026-01-02 (the bill), stale: more than six months older than the run"
    parts = [rows("vae", {MONEY: [0.1, 0.1, 0.1]}, note=price), rows("gan", {KID: [0.1, 0.2, 0.3]})]
    parts.append(rows("vae", {KID: [0.1, 0.2, 0.3]}, note="another warning"))
    board = leaderboard(frame(*parts))
    assert f"P{price[1:]}: cost_per_run (vae)." in footnotes(board)
    assert not any("price" in warning for warning in warnings(board))


def test_why_no_trial_has_an_energy_is_said_once():
    def trial(energy, *measurements):
        return record(training={"energy": energy}, measurements=[fields_of(m, "cost", "p") for m in measurements])

    none = trial("not measured: no readable RAPL counter")
    about = setting([none, none, record(training={})])
    assert about["energy"] == "not measured (no readable RAPL counter)"
    assert "energy: not measured (no readable RAPL counter)" in footnotes(leaderboard(example()), about)[0]
    joules = Measurement(2.0, name="sampling_energy_per_image", unit="J/image", direction="lower")
    assert "energy" not in setting([none, trial("not measured: checkpoints were scored in between", joules)])
    assert "energy" not in setting([record(training={})])


def test_warnings_of_important_columns_come_first_and_figures_are_folded():
    def noted(model, metric, values, *notes):
        return [{**line, "note": note} for line, note in zip(rows(model, {metric: values}), notes)]

    board = leaderboard(
        frame(
            *(noted(m, BITS, [3.0, 3.1], "too few: 3 of 20", "too few: 4 of 20") for m in ("a", "b", "c")),
            *(rows(m, {KID: [0.1, 0.2]}) for m in ("a", "b", "c")),
            noted("a", SPEED, [5, 6], None, "other work ran on the machine"),
            noted("a", COLLAPSED, [0, 1], "repetitions 3%; a verdict", "repetitions 80%; a verdict"),
        )
    )
    assert list(warnings(board)) == [
        "Note on sampling_throughput (a): other work ran on the machine.",
        "Note on bits_per_dim_upper_bound (every row): too few: … of ….",
    ]


def test_footnotes_say_what_the_reader_must_know():
    notes = "\n".join(footnotes(leaderboard(example()), {"device": "two cores"}))
    for needed in (
        "Device: two cores; seeds: 0, 1, 2.",
        "Rank: by kid_effnetlite0 ↓",
        "Pareto front of kid_effnetlite0 ↓, sampling_throughput ↑",
        "Floor: real training images",
        "not a 95 % interval",
        "Won by copying: copy-train, which hands out training images, beats every trained model on kid_effnetlite0",
        "wgan, seed 2 diverged: loss is not finite at step 40.",
        "means over the 2 seed(s) that completed",
    ):
        assert needed in notes
    assert "several columns" not in notes
    assert "environments" not in notes
    assert "separate nobody" not in notes


def test_copying_is_reported_only_where_it_wins():
    board = leaderboard(
        frame(
            rows("a", {KID: [0.1, 0.1, 0.1], COVERAGE: [0.9, 0.9, 0.9], SPEED: [1, 1, 1]}),
            rows("copy-train", {KID: [0.01], COVERAGE: [0.8], SPEED: [1e6]}, role="baseline"),
            rows("mean", {KID: [0.9], COVERAGE: [0.95]}, role="baseline"),
        )
    )
    found = {model: [c.metric for c in columns] for model, columns in won_by_baselines(board).items()}
    assert found == {"copy-train": [KID], "mean": [COVERAGE]}
    assert any(note.startswith("Won by a baseline: mean") for note in footnotes(board))


def test_models_no_better_than_a_baseline_are_named():
    good, bad = rows("good", {KID: [0.1, 0.1, 0.11]}), rows("bad", {KID: [0.5, 0.5, 0.51]})
    gaussian, copies = (
        rows("gaussian", {KID: [0.2] * 3}, role="baseline"),
        rows("copy-train", {KID: [0.0] * 3}, role="baseline"),
    )
    notes = "\n".join(footnotes(leaderboard(frame(good, bad, gaussian, copies))))
    assert "Not better than the baseline gaussian on kid_effnetlite0: bad." in notes
    assert "baseline copy-train" not in notes
    assert "Not better" not in "\n".join(footnotes(leaderboard(frame(good, gaussian, copies))))


def test_a_model_better_than_real_data_is_suspected_of_memorising():
    def notes(values):
        floor = rows("floor", {FD: ([5.0] * 3, [0.5] * 3)}, role="floor")
        return "\n".join(footnotes(leaderboard(frame(floor, rows("a", {FD: values})))))

    assert "a is better than real data on fd_effnetlite0" in notes([1.0, 1.1, 1.2])
    assert "better than real data" not in notes([4.0, 4.6, 5.2])


def test_splits_environments_few_seeds_missing_cells_and_warnings_have_their_footnote():
    board = leaderboard(
        frame(
            rows("a", {KID: [1, 2], SPEED: [1, 2]}, note="noisy"),
            rows("b", {KID: [1, 2], SPEED: [1, 2]}, environment="ffffffffffff"),
            rows("c", {KID: [1, 2]}),
        )
    )
    notes = "\n".join([*footnotes(board), *warnings(board)])
    assert "sampling_throughput stand(s) in several columns" in notes
    assert "2 environments (eeeeeeeeeeee, ffffffffffff)" in notes
    assert "2 seed(s) separate nobody" in notes
    assert "c is not ranked: sampling_throughput @eeeeee" in notes
    assert "Note on kid_effnetlite0 (a); sampling_throughput (a): noisy." in notes


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_terminal_table_fits_and_cuts_nothing(width):
    text = shown(leaderboard(example()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "11.0 ± 2.5" in text  # the ranking metric is always there
    assert ("more columns" in text) == (width < 200)


def test_a_narrow_table_leaves_out_seeds_that_none_lacks_and_gives_no_small_diagnostic_the_place_of_a_quality():
    parts = rows("a", {KID: [1, 2, 3], FD: [100.0, 250, 300], COVERAGE: [0.1, 0.2, 0.3], SPEED: [21000.0, 9000, 23000]})
    small = [{**line, "metric": "training_collapsed"} for line in rows("a", {KID: [0.0, 1, 0]})]
    board = leaderboard(frame(parts, small))
    narrow, wide = shown(board, 50), shown(board, 160)
    assert "3/3" not in narrow
    assert "3/3" in wide
    assert "collapsed" not in narrow
    assert "collapsed" in wide
    assert wide.index("kid_") < wide.index("collapsed")
    assert board.in_order(board.columns)[0] is board.rank_by


def test_the_terminal_shows_markup_in_names_as_it_is():
    text = shown(leaderboard(frame(rows("[red]a[/red]", {KID: [1, 2, 3]}), failure("b", 0, reason="[bold]x"))))
    assert "[red]a[/red]" in text
    assert "[bold]x" in text


def test_csv_reads_back_in_full_precision():
    board = leaderboard(example())
    table = pd.read_csv(io.StringIO(leaderboard_csv([board])))
    line = table[(table.model == "gan") & (table.metric == SPEED)].iloc[0]
    cell = board.row("gan").cells[board.column(SPEED)]
    assert (line.value, line.low, line.high, bool(line.best)) == (cell.value, cell.low, cell.high, True)
    assert set(table.section) == {"floor", "ranked", "incomplete", "baseline"}


def test_reports_never_import_torch():
    code = "import sys, bench.report.markdown, bench.report.terminal, bench.report.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
