"""Leaderboard -> rich renderable: as many of the important columns as the terminal has room for."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.report.columns import HEADLINE_IMPORTANCE, Column
from bench.report.footnotes import footnotes
from bench.report.leaderboard import Leaderboard
from bench.report.numbers import format_estimate

SECTION_TITLES = {"incomplete": "not ranked:", "baseline": "baselines:"}
GAP = 2
NARROW = 100
"""Characters below which a table saves room."""

_STYLES = {"floor": "green", "baseline": "dim", "incomplete": "yellow"}


def leaderboard_renderable(
    board: Leaderboard, width: int = 120, about: Mapping[str, str] | None = None
) -> RenderableType:
    """Table and footnotes of one data set, at most ``width`` characters wide. A line below it counts what did not fit."""
    lead = _lead(board, width)
    room = width - sum(max(map(len, cells)) + GAP for cells in lead.values())
    shown: list[Column] = []
    texts: dict[Column, tuple[list[str], list[str]]] = {}
    full = False  # from then on, what is small does not take the place of what matters
    for column in board.by_importance():
        scale = board.scale(column)
        head = _header(column, scale)
        cells = [format_estimate(row.cells.get(column), scale) for row in board.rows]
        size = max(map(len, head + cells)) + GAP
        if size > room:
            full = True
        if size > room or (full and column.importance > HEADLINE_IMPORTANCE):
            continue
        room -= size
        shown.append(column)
        texts[column] = head, cells
    shown = board.in_order(shown)

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{board.dataset} (suite {board.suite})",
        title_justify="left",
    )
    for name in lead:
        table.add_column(Text(name), justify=_JUSTIFY.get(name, "left"), no_wrap=True)
    for column in shown:
        table.add_column(Text("\n".join(texts[column][0])), justify="right", no_wrap=True)
    section = ""
    for i, row in enumerate(board.rows):
        if row.section != section and row.section in SECTION_TITLES:
            title = Text(SECTION_TITLES[row.section], style="italic dim")
            table.add_row(*(title if name == "model" else "" for name in lead))
        section = row.section
        style = _STYLES.get(row.section, "")
        values = [Text(texts[c][1][i], style="bold cyan" if board.best.get(c) == row.model else style) for c in shown]
        table.add_row(*(Text(cells[i + 1], style=style) for cells in lead.values()), *values)
    notes = footnotes(board, about)
    hidden = len(board.columns) - len(shown)
    elsewhere = [f"{hidden} more columns"] * (hidden > 0) + [f"{len(board.notes)} notes on measurements"] * bool(
        board.notes
    )
    if elsewhere:
        notes.append(f"In leaderboard.md: {' and '.join(elsewhere)}.")
    return Group(table, Text(), *(Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in notes))


_JUSTIFY: dict[str, JustifyMethod] = {"rank": "right", "": "center"}


def _lead(board: Leaderboard, width: int) -> dict[str, list[str]]:
    """The columns before the metrics, each with its header. A narrow table says in its footnotes alone that no seed is missing."""
    found = {
        "rank": [row.rank_text for row in board.rows],
        "": ["◆" if row.front else "" for row in board.rows],
        "model": [row.model for row in board.rows],
    }
    if width >= NARROW or any(row.completed < row.expected for row in board.rows):
        found["seeds"] = [row.seeds_text for row in board.rows]
    return {name: [name, *cells] for name, cells in found.items()}


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
