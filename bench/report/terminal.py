"""Leaderboard -> rich renderable: as many of the important columns as the terminal has room for."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.report.columns import Column
from bench.report.footnotes import footnotes
from bench.report.leaderboard import Leaderboard
from bench.report.numbers import format_estimate
from bench.report.standing import Row

SECTION_TITLES = {"incomplete": "not ranked:", "baseline": "baselines:"}
GAP = 2

_STYLES = {"floor": "green", "baseline": "dim", "incomplete": "yellow"}


def leaderboard_renderable(
    board: Leaderboard, width: int = 120, about: Mapping[str, str] | None = None
) -> RenderableType:
    """Table and footnotes of one data set, at most ``width`` characters wide. A line below it counts what did not fit."""
    lead = [_lead(row) for row in board.rows]
    lead_widths = [max([len(head), *(len(cells[i]) for cells in lead)]) for i, head in enumerate(_LEAD)]
    room = width - sum(size + GAP for size in lead_widths)
    shown: list[Column] = []
    texts: dict[Column, tuple[list[str], list[str]]] = {}
    for column in board.by_importance():
        scale = board.scale(column)
        head = _header(column, scale)
        cells = [format_estimate(row.cells.get(column), scale) for row in board.rows]
        size = max(map(len, head + cells)) + GAP
        if size > room:
            continue
        room -= size
        shown.append(column)
        texts[column] = head, cells
    shown = [column for column in board.columns if column in shown]

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{board.dataset} (suite {board.suite})",
        title_justify="left",
    )
    for name, justify in zip(_LEAD, ("right", "center", "left", "left")):
        table.add_column(Text(name), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for column in shown:
        table.add_column(Text("\n".join(texts[column][0])), justify="right", no_wrap=True)
    section = ""
    for i, row in enumerate(board.rows):
        if row.section != section and row.section in SECTION_TITLES:
            table.add_row("", "", Text(SECTION_TITLES[row.section], style="italic dim"))
        section = row.section
        style = _STYLES.get(row.section, "")
        values = [Text(texts[c][1][i], style="bold cyan" if board.best.get(c) == row.model else style) for c in shown]
        table.add_row(*(Text(text, style=style) for text in lead[i]), *values)
    notes = footnotes(board, about)
    hidden = len(board.columns) - len(shown)
    elsewhere = [f"{hidden} more columns"] * (hidden > 0) + [f"{len(board.notes)} notes on measurements"] * bool(
        board.notes
    )
    if elsewhere:
        notes.append(f"In leaderboard.md: {' and '.join(elsewhere)}.")
    return Group(table, Text(), *(Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in notes))


_LEAD = ("rank", "", "model", "seeds")


def _lead(row: Row) -> tuple[str, str, str, str]:
    return row.rank_text, "◆" if row.front else "", row.model, row.seeds_text


def _header(column: Column, scale: int) -> list[str]:
    """Name in lines of about 14 characters, then arrow and unit."""
    lines = [""]
    for word in column.name.replace("_", "_ ").split(" "):
        if lines[-1] and len(lines[-1]) + len(word) > 14:
            lines.append("")
        lines[-1] += word
    _, _, unit = column.header(scale).partition(" (")
    lines.append(" ".join(part for part in (column.arrow, unit.rstrip(")")) if part))
    return [line for line in lines if line]
