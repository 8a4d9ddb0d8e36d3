"""Frame of results -> Leaderboard: one data set's rows and columns, ranked no more sharply than the intervals allow.

cells.py decides what is averaged, standing.py who is ranked; markdown.py, terminal.py and plot.py only show it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.errors import BenchError, did_you_mean
from bench.report.cells import (
    cell_of,
    check_frame,
    columns_of,
    current,
    find_column,
    in_column,
    measured_rows,
    notes_of,
    only,
)
from bench.report.columns import HARDWARE_GROUPS, Column
from bench.report.numbers import column_scale
from bench.report.standing import Failure, Row, best_of, stand

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """One data set of one suite. Rows stand in the order shown; ``best`` names the row that beats all other ranked rows.

    notes: ``note`` of the measurements -> where it applies.
    """

    suite: str
    dataset: str
    budget: str
    seeds: tuple[int, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    rank_by: Column | None
    objectives: tuple[Column, ...]
    first: tuple[Column, ...]
    best: Mapping[Column, str]
    environments: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]

    def section(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.section == name]

    def row(self, model: str) -> Row:
        for row in self.rows:
            if row.model == model:
                return row
        raise BenchError(
            f"the leaderboard of '{self.dataset}' has no model '{model}'; {did_you_mean(model, [r.model for r in self.rows])}"
        )

    def column(self, metric: str) -> Column:
        """The column of a metric, by name or by ``name @mark``."""
        return find_column(metric, self.columns)

    def scale(self, column: Column) -> int:
        """The power of ten in whose units the column is shown: chosen for the trained models, not for what surrounds them. A
        share, of 1 and better the higher, keeps its unit where anything reaches a tenth: 0.750 is not 750 thousandths."""
        rows = [row for row in self.rows if column in row.cells]
        if column.unit != "1" or column.direction != "higher":
            rows = [row for row in rows if row.section in ("ranked", "incomplete")] or rows
        return column_scale(row.cells[column].value for row in rows)

    def by_importance(self) -> list[Column]:
        """The columns, most needed first: those asked for, else rank_by and the objectives, then by importance."""
        first = self.first or [c for c in (self.rank_by, *self.objectives) if c is not None]
        rest = sorted((c for c in self.columns if c not in first), key=lambda c: (c.importance, c.name))
        return list(dict.fromkeys([*first, *rest]))

    def key_columns(self, count: int) -> list[Column]:
        """The columns asked for as they were, else the ``count`` that matter most, see in_order()."""
        return list(self.first) or self.in_order(self.by_importance()[:count])

    def in_order(self, columns: Collection[Column]) -> list[Column]:
        """Columns as a table shows them: what ranks first, then quality, speed, cost and diagnostics."""
        kept = [c for c in self.columns if c in columns]
        return sorted(kept, key=lambda c: c != self.rank_by)

    def frame(self) -> pd.DataFrame:
        """Long and in full precision: one line a cell; a row without any cell keeps one line with its status."""
        import pandas as pd

        lines = []
        for row in self.rows:
            head = {
                "suite": self.suite, "dataset": self.dataset, "budget": self.budget, "model": row.model,
                "family": row.family, "section": row.section,
                "rank_low": row.rank and row.rank[0], "rank_high": row.rank and row.rank[1],
                "mean_rank": row.mean_rank and row.mean_rank[0], "chance_of_best": row.chance, "pareto_front": row.front if row.rank else None,
                "seeds_completed": row.completed, "seeds_expected": row.expected, "status": row.seeds_text,
            }  # fmt: skip
            cells = [
                {
                    **head, "metric": column.metric, "value": cell.value, "low": cell.low, "high": cell.high,
                    "interval": cell.method, "seeds": cell.n, "unit": column.unit, "direction": column.direction,
                    "samples": "/".join(map(str, column.samples)), "protocol": column.protocol,
                    "environment": column.environment, "best": self.best.get(column) == row.model,
                }
                for column in self.columns
                if (cell := row.cells.get(column)) is not None
            ]  # fmt: skip
            lines += cells or [head]
        frame = pd.DataFrame(lines)
        whole = ["rank_low", "rank_high", "seeds"]
        return frame.astype({name: "Int64" for name in whole if name in frame})


def leaderboards(
    frame: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    rank_by: str | None = None,
    objectives: Sequence[str] | None = None,
    first: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> list[Leaderboard]:
    """One leaderboard for each suite and data set (and budget, where the frame has that column). See leaderboard()."""
    check_frame(frame)
    keys = ["suite", "dataset", *(["budget"] if "budget" in frame else [])]
    return [
        leaderboard(part, columns, rank_by=rank_by, objectives=objectives, first=first, seeds=seeds)
        for _, part in frame.groupby(keys, sort=False, dropna=False)
    ]


def leaderboard(
    frame: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    rank_by: str | None = None,
    objectives: Sequence[str] | None = None,
    first: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Leaderboard:
    """Rank the models of one data set.

    frame: tidy results as from ``bench.load_results``, one row a measurement, a failed trial one row without metric.
    columns: metrics to show; all by default. rank_by: the metric that ranks; by default the kernel distance.
    objectives: metrics of the Pareto front; by default rank_by and the sampling throughput. first: metrics of the first table, by
    default by importance; those that were not measured are left out. seeds: the seeds that a complete row has; by default all
    seeds that any row has.

    Cells are means over seeds with t intervals. Numbers of different protocols stand in different columns, and so do numbers
    that depend on the machine where environments differ. Only rows with every seed complete and every required cell
    (rank_by and objectives) are ranked; baselines and the floor are shown, never ranked.
    """
    check_frame(frame)
    suite, dataset = only(frame, "suite"), only(frame, "dataset")
    budget = only(frame, "budget") if "budget" in frame else ""
    frame = current(frame)
    if seeds is None:
        trained = frame[frame.role == "trained"]
        seeds = sorted({int(s) for s in (trained if len(trained) else frame).seed})
    measured = measured_rows(frame[frame.seed.isin(list(seeds))])
    all_columns = columns_of(measured)
    rank_column = _rank_column(all_columns, measured, rank_by)
    goals = _objectives(all_columns, measured, rank_column, objectives)
    required = tuple(dict.fromkeys(c for c in (rank_column, *goals) if c is not None))
    rows = [_row(str(model), part, all_columns, seeds, required) for model, part in frame.groupby("model", sort=False)]
    rows = stand(rows, rank_column, goals)
    shown = all_columns if columns is None else [find_column(name, all_columns) for name in columns]
    ranked = [row for row in rows if row.section == "ranked"]
    return Leaderboard(
        suite=suite,
        dataset=dataset,
        budget=budget,
        seeds=tuple(seeds),
        columns=tuple(dict.fromkeys([*shown, *required])) if columns is not None else tuple(shown),
        rows=tuple(rows),
        rank_by=rank_column,
        objectives=goals,
        first=tuple(c for name in first for c in all_columns if name in (c.name, c.metric)),
        best={c: name for c in all_columns if (name := best_of(ranked, c)) is not None},
        environments=tuple(dict.fromkeys(str(e) for e in frame.environment.dropna())),
        notes=notes_of(measured),
    )


def _rank_column(columns: Sequence[Column], measured: pd.DataFrame, rank_by: str | None) -> Column | None:
    if not columns:
        return None
    if rank_by is None:
        judged = [c for c in columns if c.direction in ("higher", "lower") and c.group not in HARDWARE_GROUPS]
        if not judged:
            return None
        rank_by = min(judged, key=lambda c: (c.importance, len(c.metric), c.metric)).metric
    return _directed(rank_by, columns, measured, "rank_by")


def _objectives(
    columns: Sequence[Column], measured: pd.DataFrame, rank_column: Column | None, objectives: Sequence[str] | None
) -> tuple[Column, ...]:
    if not columns:
        return ()
    if objectives is not None:
        return tuple(_directed(name, columns, measured, "objectives") for name in objectives)
    speed = sorted({c.metric for c in columns if c.metric.startswith("sampling") and c.unit.endswith("/s")})
    found = [rank_column] if rank_column is not None else []
    return tuple(found + [_directed(name, columns, measured, "objectives") for name in speed[:1]])


def _directed(metric: str, columns: Sequence[Column], measured: pd.DataFrame, key: str) -> Column:
    """The metric's column; of several (protocols, environments) the one in which most trained trials stand."""
    same = [c for c in columns if c.metric == metric] or [find_column(metric, columns)]
    trained = measured[measured.role == "trained"]
    column = max(same, key=lambda column: len(in_column(trained, column)))
    if column.direction not in ("higher", "lower"):
        raise BenchError(f"'{key}': '{metric}' has no better direction; choose a metric that has one")
    return column


def _row(
    model: str, part: pd.DataFrame, columns: Sequence[Column], seeds: Sequence[int], required: Sequence[Column]
) -> Row:
    role, family = str(part.role.iloc[0]), str(part.family.iloc[0])
    part = part[part.seed.isin(list(seeds))]
    ends = part.groupby("seed").last()  # skips missing values: a reason that is absent stays absent
    failures = tuple(
        _failure(ends, seed) for seed in seeds if seed not in ends.index or ends.status[seed] != "complete"
    )
    measured = measured_rows(part)
    cells = {column: cell for column in columns if (cell := cell_of(measured, column)) is not None}
    completed = len(seeds) - len(failures)
    lacking = tuple(c.name for c in required if c not in cells or cells[c].n < len(seeds))
    if role != "trained":
        section = role
    else:
        section = "incomplete" if failures or lacking or not required else "ranked"
    return Row(model, family, section, completed, len(seeds), failures, cells, lacking)


def _failure(ends: pd.DataFrame, seed: int) -> Failure:
    if seed not in ends.index:
        return Failure(seed, "not run", "")
    status, reason = ends.loc[seed, ["status", "reason"]]
    return Failure(seed, str(status), reason if isinstance(reason, str) else "")
