"""Leaderboard -> Markdown that reads well on GitHub, and CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.report.columns import GROUPS, Column
from bench.report.footnotes import footnotes, warnings
from bench.report.leaderboard import Leaderboard
from bench.report.numbers import format_estimate
from bench.report.standing import Row

KEY_COLUMNS = 7
"""Columns of the first table; all of them follow, folded away, group by group."""

SECTION_TITLES = {"incomplete": "not ranked: incomplete", "baseline": "baselines, not ranked"}


def leaderboard_markdown(boards: Sequence[Leaderboard], about: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The text of ``leaderboard.md``: for each data set a table of key columns, footnotes and all other columns folded away.

    about: what the results do not say themselves, data set -> label -> text, for the footnotes.
    """
    return "\n".join(board_markdown(board, (about or {}).get(board.dataset)) for board in boards)


def board_markdown(board: Leaderboard, about: Mapping[str, str] | None = None) -> str:
    key = board.key_columns(KEY_COLUMNS)
    parts = [f"## {escape(board.dataset)} (suite {escape(board.suite)})", "", table(board, key, ranks=True), ""]
    parts += [f"- {escape(note)}" for note in (*footnotes(board, about), *warnings(board))]
    parts.append("")
    if set(board.columns) - set(key):
        parts += ["<details><summary>All measurements</summary>", ""]
        for group in GROUPS:
            columns = [c for c in board.columns if c.group == group]
            if columns:
                parts += [f"**{group.capitalize()}**", "", table(board, columns), ""]
        parts += ["</details>", ""]
    return "\n".join(parts)


def table(board: Leaderboard, columns: Sequence[Column], ranks: bool = False) -> str:
    """One GitHub table. ranks: with the columns rank, front and seeds."""
    scales = {c: board.scale(c) for c in columns}
    means = ranks and any(row.mean_rank for row in board.rows) and len(board.objectives) > 1
    chances = means and any(row.chance is not None for row in board.rows)
    lead = ["model"]
    if ranks:
        lead = ["rank", "", "model", "seeds", *(["mean rank"] if means else []), *(["P(best)"] if chances else [])]
    lines = [_line([*lead, *(_header(c, scales[c]) for c in columns)])]
    aligned = {"": ":-:", "model": ":--"}
    lines.append(_line([*(aligned.get(name, "--:") for name in lead), *("--:" for _ in columns)]))
    section = ""
    for row in board.rows:
        if row.section != section and row.section in SECTION_TITLES:
            title = f"***{SECTION_TITLES[row.section]}***"
            lines.append(_line([*(title if name == "model" else "" for name in lead), *("" for _ in columns)]))
        section = row.section
        cells = [_cell(board, row, c, scales[c]) for c in columns]
        said = {
            "rank": row.rank_text,
            "": "◆" if row.front else "",
            "model": _name(row),
            "seeds": escape(row.seeds_text),
            "mean rank": row.mean_rank_text,
            "P(best)": "" if row.chance is None else f"{row.chance:.0%}",
        }
        lines.append(_line([*(said[name] for name in lead), *cells]))
    return "\n".join(lines)


def leaderboard_csv(boards: Sequence[Leaderboard]) -> str:
    """The text of ``leaderboard.csv``: one line a cell, full precision, both ends of every interval."""
    import pandas as pd

    return str(
        pd.concat([board.frame() for board in boards], ignore_index=True).to_csv(index=False, lineterminator="\n")
    )


def escape(text: str) -> str:
    """Text that may hold anything, for a Markdown table cell or list item: no markup, no link, one line."""
    text = re.sub(
        r"[\\`*|<>&]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])",
        lambda sign: _ESCAPED.get(sign[0], "\\" + sign[0]),
        text,
    )
    return " ".join(text.split())


_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _header(column: Column, scale: int) -> str:
    name, _, rest = column.header(scale).partition(" (")
    metric, _, marks = name.partition(" ")
    unit = f"<br>({escape(rest)}" if rest else ""
    return " ".join(part for part in (f"`{metric.replace('|', '')}`", escape(marks)) if part) + unit


def _name(row: Row) -> str:
    label = escape(row.label)
    return f"*{label}*" if row.section in ("floor", "baseline") else label


def _cell(board: Leaderboard, row: Row, column: Column, scale: int) -> str:
    text = format_estimate(row.cells.get(column), scale)
    return f"**{text}**" if board.best.get(column) == row.model else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
