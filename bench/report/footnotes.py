"""What a reader must know to read a leaderboard rightly: one sentence a footnote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.prices import PRICE_OF
from bench.report.columns import HARDWARE_GROUPS, Column
from bench.report.leaderboard import Leaderboard
from bench.report.standing import Row

COPY_BASELINE = "copy-train"

MAX_NOTES = 8
"""Warnings of measurements shown below a table; the rest stay in the records."""


def footnotes(board: Leaderboard, about: Mapping[str, str] | None = None) -> list[str]:
    """The sentences below a table, most needed first.

    about: what the results do not say themselves, label -> text (``{"device": "2-core Xeon, CPU", "extractor": ...}``).
    """
    setting = "; ".join(f"{label}: {text}" for label, text in _setting(board, about or {}).items())
    sentences = [f"{setting[:1].upper()}{setting[1:]}."]
    for part in (_values, _ranking, _rivals, _money, _holes, _failures, _splits):
        sentences += part(board)
    return sentences


def won_by_baselines(board: Leaderboard) -> dict[str, list[Column]]:
    """Baseline -> the columns of quality in which its value is better than that of every trained model.

    Measures of memorisation count for copying alone: a baseline that makes nothing real is far from all training images.
    """
    trained = board.section("ranked") + board.section("incomplete")
    found: dict[str, list[Column]] = {}
    for column in board.columns:
        if column.direction not in ("higher", "lower") or column.group in HARDWARE_GROUPS:
            continue
        rivals = [row.cells[column].value for row in trained if column in row.cells]
        for row in board.section("baseline"):
            if column.group == "memorisation" and row.model != COPY_BASELINE:
                continue
            if rivals and column in row.cells and all(_better(row.cells[column].value, v, column) for v in rivals):
                found.setdefault(row.model, []).append(column)
    return found


def _better(a: float, b: float, column: Column) -> bool:
    return a < b if column.direction == "lower" else a > b


def _setting(board: Leaderboard, about: Mapping[str, str]) -> dict[str, str]:
    setting = {"budget": board.budget} if board.budget else {}
    setting.update(about)
    setting["seeds"] = ", ".join(map(str, board.seeds))
    return setting


def _values(board: Leaderboard) -> Iterator[str]:
    methods = {cell.method for row in board.rows for cell in row.cells.values()}
    said = {
        "t": "a ± b: mean over training seeds with the half-width of its 95 % t interval.",
        "min-max": "a [b, c] of two seeds: their mean and range, which is not a 95 % interval.",
        "wilson": "Verdicts, which say yes or no of each seed: the share of seeds with its 95 % Wilson interval.",
        "sampling": "Where there is one seed, or the seed changes nothing, the interval is the sampling error of one sample set.",
    }
    yield " ".join(
        [*(text for method, text in said.items() if method in methods), "–: not applicable or not measured."]
    )


def _ranking(board: Leaderboard) -> Iterator[str]:
    if board.rank_by is None:
        return
    yield (
        f"Rank: by {board.rank_by.name} {board.rank_by.arrow}, complete rows only; a range such as 1–2 where intervals overlap. "
        "Bold: better than every other ranked row beyond the intervals."
    )
    if 0 < len(board.seeds) < 3:
        yield f"{len(board.seeds)} seed(s) separate nobody: ranks need at least 3 seeds, rows stand in the order of their values."
    if len(board.objectives) > 1:
        goals = ", ".join(f"{c.name} {c.arrow}" for c in board.objectives)
        yield (
            f"◆: on the Pareto front of {goals}: no ranked row is better in one beyond the intervals and as good in the rest. "
            "Mean rank over the same, with the range that the 95 % intervals allow; P(best): how probable the best mean rank is."
        )


def _rivals(board: Leaderboard) -> Iterator[str]:
    if board.section("floor"):
        yield (
            "Floor: real training images scored against the test split as if they were generated, which is what a perfect model "
            "gets with this many samples. Baselines learn nothing and are not ranked."
        )


def _money(board: Leaderboard) -> Iterator[str]:
    """Of which day and from whom the prices are, whatever else there is to say."""
    for note, places in board.notes.items():
        if note.startswith(PRICE_OF):
            yield f"{note[:1].upper()}{note[1:]}: {'; '.join(places)}."


def _holes(board: Leaderboard) -> Iterator[str]:
    for model, columns in won_by_baselines(board).items():
        names = ", ".join(c.name for c in columns)
        if model == COPY_BASELINE:
            yield f"Won by copying: {model}, which hands out training images, beats every trained model on {names}; alone, such a number rewards memorising."
        else:
            yield f"Won by a baseline: {model} beats every trained model on {names}."
    for model, beaten in _not_better_than(board).items():
        assert board.rank_by is not None
        yield f"Not better than the baseline {model} on {board.rank_by.name}: {', '.join(beaten)}."
    for row in board.section("ranked"):
        suspicious = [c.name for c in board.columns if c.group == "quality" and _beats_floor(row, board, c)]
        if suspicious:
            yield f"{row.model} is better than real data on {', '.join(suspicious)}: check it for memorisation."


def _not_better_than(board: Leaderboard) -> dict[str, list[str]]:
    """Baseline that does not copy -> the ranked models whose value of rank_by is no better than its own, unless all are."""
    column = board.rank_by
    if column is None:
        return {}
    ranked = board.section("ranked")
    found = {}
    for baseline in board.section("baseline"):
        if baseline.model == COPY_BASELINE or column not in baseline.cells:
            continue
        value = baseline.cells[column].value
        beaten = [row.model for row in ranked if not _better(row.cells[column].value, value, column)]
        if 0 < len(beaten) < len(ranked):  # all of them: told as won by a baseline
            found[baseline.model] = beaten
    return found


def _beats_floor(row: Row, board: Leaderboard, column: Column) -> bool:
    """Whether the whole interval of a row lies on the better side of the floor's."""
    cell = row.cells.get(column)
    if cell is None or cell.bounds is None:
        return False
    for floor in board.section("floor"):
        real = floor.cells.get(column)
        if real is not None and real.low is not None and real.high is not None:
            return cell.bounds[1] < real.low if column.direction == "lower" else cell.bounds[0] > real.high
    return False


def _failures(board: Leaderboard) -> Iterator[str]:
    for row in board.rows:
        for failure in row.failures:
            reason = f": {failure.reason}" if failure.reason else ""
            yield f"{row.model}, seed {failure.seed} {failure.status}{reason}."
        if row.failures and row.cells:
            yield f"{row.model}: its numbers are means over the {row.completed} seed(s) that completed, which flatters it."
        if row.section == "incomplete" and not row.failures and row.missing:
            yield f"{row.model} is not ranked: {', '.join(row.missing)} is not there for every seed."


def _splits(board: Leaderboard) -> Iterator[str]:
    marked = sorted({c.metric for c in board.columns if c.mark})
    if marked:
        yield (
            f"{', '.join(marked)} stand(s) in several columns, marked @, because protocol or machine differ; such numbers do not "
            "compare."
        )
    if len(board.environments) > 1:
        yield (
            f"The trials ran in {len(board.environments)} environments ({', '.join(board.environments)}): under a budget in seconds "
            "they did not get the same training."
        )


def warnings(board: Leaderboard) -> Iterator[str]:
    """What single measurements say of themselves: sentences, at most MAX_NOTES."""
    notes = {note: places for note, places in board.notes.items() if not note.startswith(PRICE_OF)}
    for number, (note, places) in enumerate(notes.items()):
        if number == MAX_NOTES:
            yield f"{len(notes) - MAX_NOTES} further warnings stand in the records."
            return
        shown = "; ".join(places[:3]) + (f"; and {len(places) - 3} more" if len(places) > 3 else "")
        yield f"Note on {shown}: {note}{'' if note.endswith('.') else '.'}"
