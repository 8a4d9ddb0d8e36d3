"""Verdicts for people: a rich table for the terminal, Markdown for a pull request."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.report.numbers import format_estimate
from bench.report.verdicts import Line, Outcome, Verdicts
from bench.stats.compare import findable
from bench.stats.intervals import Estimate

SYMBOLS: dict[Outcome, str] = {
    "worse": "❌", "failed": "❌", "missing": "❌", "inconclusive": "❔", "not comparable": "❔", "better": "✅", "equivalent": "✅",
    "new": "➕",
}  # fmt: skip
_STYLES: dict[Outcome, str] = {
    "worse": "bold red", "failed": "bold red", "missing": "bold red", "inconclusive": "yellow", "not comparable": "yellow",
    "better": "bold green", "equivalent": "green", "new": "cyan",
}  # fmt: skip
MARKER = "<!-- gen-bench -->"
"""First line of the Markdown: a workflow finds the comment it wrote before by it."""


def change_text(line: Line) -> str:
    """``+3.1 % [-0.8 %, +7.2 %]``, or a difference in the metric's units; "" where there is none."""
    if line.change is None:
        return ""
    show = _percent if line.relative else _signed
    low, high = line.change.low, line.change.high
    ends = "" if low is None or high is None or low == high else f" [{show(low)}, {show(high)}]"
    return f"{show(line.change.value)}{ends}"


def _percent(share: float) -> str:
    return f"{100 * share:+.3g} %" if abs(share) < 10 else f"×{1 + share:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def side_text(estimate: Estimate | None, unit: str) -> str:
    return format_estimate(estimate) + (f" {unit}" if unit != "1" and estimate is not None else "")


def _over_unit(estimate: Estimate | None, unit: str) -> str:
    """A side in two lines, the unit below the number."""
    return format_estimate(estimate) + (f"\n{unit}" if unit != "1" and estimate is not None else "")


def p_text(line: Line) -> str:
    if line.p is None:
        return ""
    return f"{line.p:.2g}" if line.p >= 1e-4 else "<0.0001"


def metric_text(line: Line) -> str:
    return f"{line.metric} {'↓' if line.direction == 'lower' else '↑'}"


def finds_text(line: Line) -> str:
    """The change for the worse that is found with 80 % probability; "" where the line is not open."""
    if line.detectable is None or line.verdict != "inconclusive":
        return ""
    if not findable(line.detectable, line.relative):
        return "none"
    return _percent(line.detectable) if line.relative else _signed(line.detectable)


def verdicts_renderable(verdicts: Verdicts) -> RenderableType:
    """A table with all lines, those that need attention first, then the reasons of these, notes and the headline."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, justify in zip(_HEADS, ("left", "left", *["right"] * 4)):
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name in _WHOLE)  # type: ignore[arg-type]
    for line in verdicts.by_weight():
        cells = (
            f"{line.subject}\n{metric_text(line)}", _over_unit(line.base, line.unit), _over_unit(line.head, line.unit),
            change_text(line).replace(" %", "%").replace(" [", "\n["), f"{p_text(line)}\n{finds_text(line)}".replace(" %", "%").rstrip(),
        )  # fmt: skip
        table.add_row(Text(line.verdict, style=_STYLES[line.verdict]), *map(Text, cells))
    reasons = [
        f"{line.name}: {line.reason}"
        for line in verdicts.by_weight()
        if line.verdict in _EXPLAINED or (line.detectable is None and line.verdict == "inconclusive")
    ]
    below = [
        Padding(Text(text, style="dim"), (0, 0, 0, 2)) for text in (*reasons, *_power_note(verdicts), *verdicts.notes)
    ]
    head = Text(f"{verdicts.kind}: {verdicts.head} against {verdicts.base}", style="bold")
    return Group(head, table, Text(), *below, Text(verdicts.headline, style=_headline_style(verdicts)))


_HEADS = ("verdict", "cell and metric", "base", "head", "change", "p, finds")
_WHOLE = ("verdict", "cell and metric", "p, finds")
"""Columns whose words are never broken: 80 columns have room for them."""
_EXPLAINED = ("worse", "failed", "missing", "not comparable", "new")


def _power_note(verdicts: Verdicts) -> list[str]:
    """What "no difference" could have found, said once."""
    smallest = [
        line.smallest_p for line in verdicts.lines if line.verdict == "inconclusive" and line.smallest_p is not None
    ]
    if not smallest:
        return []
    return [
        "finds: the true change for the worse that this verdict, with its margin and its correction for the number of comparisons, "
        f"shows four times in five; the smallest p that an exact test of so few values can give is {max(smallest):.2g}"
    ]


def _headline_style(verdicts: Verdicts) -> str:
    return {0: "bold green", 4: "bold yellow"}.get(verdicts.exit_code, "bold red")


def verdicts_markdown(verdicts: Verdicts) -> str:
    """For a pull request comment or a step summary: headline, what needs attention, all the rest folded."""
    symbol = {0: "✅", 4: "❔"}.get(verdicts.exit_code, "❌")
    parts = [MARKER, f"### {symbol} gen-bench {verdicts.kind}: {_md(verdicts.headline)}", ""]
    parts += [
        f"**{_md(verdicts.head)}** against **{_md(verdicts.base)}**; chance of any false alarm {verdicts.alpha:.2g}.",
        "",
    ]
    loud = [line for line in verdicts.by_weight() if line.verdict not in ("better", "equivalent")]
    calm = [line for line in verdicts.by_weight() if line.verdict in ("better", "equivalent")]
    if loud:
        parts += [*_table(loud), ""]
    if calm:
        parts += [
            "<details>",
            f"<summary>{len(calm)} better or equivalent</summary>",
            "",
            *_table(calm),
            "",
            "</details>",
            "",
        ]
    parts += [f"- {_md(note)}" for note in verdicts.notes]
    return "\n".join(parts).rstrip() + "\n"


def _table(lines: list[Line]) -> list[str]:
    rows = [
        "|  | cell | metric | base | head | change | p | why |",
        "| :-: | :-- | :-- | --: | --: | --: | --: | :-- |",
    ]
    for line in lines:
        cells = (
            f"{SYMBOLS[line.verdict]} {line.verdict}", line.subject, f"`{_code(line.metric)}` {'↓' if line.direction == 'lower' else '↑'}",
            side_text(line.base, line.unit), side_text(line.head, line.unit), change_text(line), p_text(line), line.reason,
        )  # fmt: skip
        rows.append("| " + " | ".join(cell if cell.startswith("`") else _md(cell) for cell in cells) + " |")
    return rows


def _md(text: str) -> str:
    """Text that Markdown and HTML leave as it is, in one line."""
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "¦").split())
