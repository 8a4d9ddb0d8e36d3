"""The rows of a leaderboard: who is ranked, where, and who is not and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bench.report.columns import Column
from bench.stats.intervals import Estimate
from bench.stats.ranking import beats, mean_ranks_of_estimates, pareto_front, rank_ranges

FLOOR_LABEL = "floor (real train images vs test)"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A trial that did not complete."""

    seed: int
    status: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Row:
    """One model. section: ``floor``, ``ranked``, ``incomplete`` or ``baseline``.

    cells: Column -> Estimate over the seeds that completed (absent: not applicable or not measured).
    rank: best and worst rank compatible with the intervals; None where the row is not ranked.
    mean_rank: (mean, lowest, highest) over the objectives, from the rank ranges of each.
    chance: probability that its mean rank over the objectives is the best, from the t intervals; None with fewer than three seeds.
    front: on the Pareto front of the objectives. missing: required columns with fewer values than seeds.
    """

    model: str
    family: str
    section: str
    completed: int
    expected: int
    failures: tuple[Failure, ...]
    cells: Mapping[Column, Estimate]
    missing: tuple[str, ...] = ()
    rank: tuple[int, int] | None = None
    mean_rank: tuple[float, float, float] | None = None
    front: bool = False
    chance: float | None = None

    @property
    def label(self) -> str:
        return FLOOR_LABEL if self.section == "floor" else self.model

    @property
    def rank_text(self) -> str:
        if self.rank is None:
            return ""
        return str(self.rank[0]) if self.rank[0] == self.rank[1] else f"{self.rank[0]}–{self.rank[1]}"

    @property
    def mean_rank_text(self) -> str:
        """``2.5 (2–2.5)``: mean over the objectives and its range."""
        if self.mean_rank is None:
            return ""
        mean, low, high = self.mean_rank
        return f"{mean:.3g}" if low == high else f"{mean:.3g} ({low:.3g}–{high:.3g})"

    @property
    def seeds_text(self) -> str:
        """``3/3``, or ``1/3: 1 diverged, 1 not run``."""
        counts: dict[str, int] = {}
        for failure in self.failures:
            counts[failure.status] = counts.get(failure.status, 0) + 1
        ended = "" if not counts else ": " + ", ".join(f"{n} {status}" for status, n in counts.items())
        return f"{self.completed}/{self.expected}{ended}"


def stand(rows: Sequence[Row], rank_column: Column | None, objectives: Sequence[Column]) -> list[Row]:
    """Ranks, mean ranks and the Pareto front for complete rows; then the order in which rows are shown."""

    def by_value(row: Row) -> tuple[bool, float, str]:
        cell = None if rank_column is None else row.cells.get(rank_column)
        value = np.inf if cell is None else cell.value
        return (
            cell is None,
            -value if rank_column is not None and rank_column.direction == "higher" else value,
            row.model,
        )

    sections = {
        name: sorted((row for row in rows if row.section == name), key=by_value)
        for name in ("floor", "ranked", "incomplete", "baseline")
    }
    ranked = sections["ranked"]
    if ranked and rank_column is not None:
        ranges = rank_ranges([row.cells[rank_column] for row in ranked], rank_column.direction)
        front = pareto_front([[row.cells[c] for c in objectives] for row in ranked], [c.direction for c in objectives])
        means = _mean_ranks(ranked, objectives)
        chances = mean_ranks_of_estimates(
            [[r.cells[c] for c in objectives] for r in ranked], [c.direction for c in objectives]
        )
        sections["ranked"] = [
            dataclasses.replace(row, rank=rank, front=on_front, mean_rank=mean, chance=chance)
            for row, rank, on_front, mean, chance in zip(
                ranked,
                ranges,
                front,
                means,
                [e.best for e in chances] if chances and objectives else [None] * len(ranked),
            )
        ]
    return [row for section in sections.values() for row in section]


def _mean_ranks(rows: Sequence[Row], objectives: Sequence[Column]) -> list[tuple[float, float, float] | None]:
    """Mean over objectives of the rank by value and of both ends of the rank range."""
    if not objectives:
        return [None] * len(rows)
    points, lows, highs = [], [], []
    for column in objectives:
        cells = [row.cells[column] for row in rows]
        sign = -1 if column.direction == "higher" else 1
        values = np.array([sign * cell.value for cell in cells])
        points.append([1 + (values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])
        ranges = rank_ranges(cells, column.direction)
        lows.append([low for low, _ in ranges])
        highs.append([high for _, high in ranges])
    return [tuple(map(float, row)) for row in np.mean([points, lows, highs], axis=1).T]  # type: ignore[misc]


def best_of(ranked: Sequence[Row], column: Column) -> str | None:
    """The ranked row that beats every other ranked row with that column beyond the intervals, if there is one."""
    if column.direction not in ("higher", "lower"):
        return None
    having = [row for row in ranked if column in row.cells]
    for row in having:
        others = [other for other in having if other is not row]
        if others and all(beats(row.cells[column], other.cells[column], column.direction) for other in others):
            return row.model
    return None
