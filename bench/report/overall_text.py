"""Overall -> text: tables for a terminal and for Markdown from the same cells."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.report.markdown import escape
from bench.report.numbers import MISSING
from bench.report.overall import THRESHOLDS, Overall, Standing
from bench.stats.intervals import Estimate

Cells = list[list[str]]
"""Rows of text, the header first."""


def overall_renderable(found: Overall) -> RenderableType:
    """The standings and the sentences below them."""
    notes = [Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in sentences(found)]
    lines = standings(found)
    parts = [rich_table([line[:4] + line[-2:] for line in lines], _title(found)), Text()]
    if found.worst:  # beside the rest it would not fit into a usual terminal
        parts += [rich_table([line[:1] + line[4:-2] for line in lines], "performance profile"), Text()]
    return Group(*parts, *notes)


def overall_markdown(found: Overall) -> str:
    """The standings, the sentences, and the table of all pairs."""
    parts = [f"## {escape(_title(found))}", "", markdown_table(standings(found)), ""]
    parts += [f"- {escape(note)}" for note in sentences(found)]
    return "\n".join([*parts, "", markdown_table(pairs(found)), ""])


def standings(found: Overall) -> Cells:
    """One line a model, best first."""
    lines = [
        [
            "model",
            "mean rank",
            "P(best)",
            "score (IQM)",
            *(f"runs > {t:g}" for t in THRESHOLDS),
            "better than next",
            "p",
        ]
    ]
    for i, row in enumerate(found.standings):
        beyond = found.improvement[i][i + 1] if i + 1 < len(found.standings) else None
        beyond = None if beyond is None or beyond.low is None else beyond  # one run against one is no frequency
        p = MISSING if found.p is None or beyond is None else _p(float(found.p[i, i + 1]))
        lines.append([
            row.model, _mean_rank(row), MISSING if row.ranks is None else f"{row.ranks.best:.0%}", _interval(row.score, "{:.3f}"),
            *(_interval(share, "{:.0%}") for share in row.profile or [None] * len(THRESHOLDS)), _interval(beyond, "{:.0%}"), p,
        ])  # fmt: skip
    return lines


def pairs(found: Overall) -> Cells:
    """How often a run of the row's model is better than one of the column's, with the p-value of the pair."""
    names = [row.model for row in found.standings]
    lines = [["better than", *names]]
    for i, name in enumerate(names):
        cells = []
        for j, share in enumerate(found.improvement[i]):
            p = "" if found.p is None or i == j else f", p {_p(float(found.p[i, j]))}"
            share = None if share is None or share.low is None else share
            cells.append("" if i == j else MISSING if share is None else f"{_interval(share, '{:.0%}')}{p}")
        lines.append([name, *cells])
    return lines


def sentences(found: Overall) -> list[str]:
    """What a reader must know to read the tables rightly."""
    arrow = {"higher": "↑", "lower": "↓"}[found.direction]
    said = [
        f"By {found.metric} {arrow} over {len(found.datasets)} data set(s) ({', '.join(found.datasets)}), seeds "
        f"{', '.join(map(str, found.seeds))}; complete models only. Brackets: 95 % intervals over seeds; the data sets are fixed.",
        "Mean rank over data sets, and how probable it is that it is the best one. Better than next: how often a run beats a run of "
        "the next model on the same data set; p: paired t test of the mean score by seed, Holm over all pairs.",
    ]
    if found.worst:
        said.append(
            f"Score: 0 for the baseline {found.worst}, 1 for the floor (real data); IQM: mean of the middle half of all runs; "
            "runs > x: share of the runs that score above x. Without brackets: all runs agree, and so few give no interval."
        )
    else:
        said.append("No scores: they need the floor and the baseline that scores 0 (--worst) on every data set.")
    if len(found.seeds) < 3:
        said.append(f"{len(found.seeds)} seed(s) separate nobody; run at least 3.")
    return said + [f"Not ranked: {model} ({why})." for model, why in found.left_out.items()]


def rich_table(cells: Cells, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for i, name in enumerate(cells[0]):
        table.add_column(Text(name), justify="right" if i else "left", no_wrap=not i)
    for line in cells[1:]:
        table.add_row(*(Text(text) for text in line))
    return table


def markdown_table(cells: Cells) -> str:
    head, *lines = [[escape(text) for text in line] for line in cells]
    rule = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _title(found: Overall) -> str:
    return f"suite {found.suite}: all data sets"


def _mean_rank(row: Standing) -> str:
    if row.ranks is None:
        return MISSING
    return f"{row.ranks.mean:.3g} [{row.ranks.low:.3g}, {row.ranks.high:.3g}]"


def _interval(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return MISSING
    value, ends = form.format(estimate.value), (estimate.low, estimate.high)
    return (
        value
        if None in ends or estimate.low == estimate.high
        else f"{value} [{', '.join(form.format(end) for end in ends)}]"
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
