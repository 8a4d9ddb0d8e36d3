"""From the tidy frame of results to columns and cells: what may be averaged with what."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError, did_you_mean
from bench.prices import PRICE_OF
from bench.report.columns import GROUPS, HARDWARE_GROUPS, Column, group_and_importance, is_verdict
from bench.stats.intervals import Estimate, t_interval, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

NEEDED = (
    "suite", "dataset", "model", "family", "role", "seed", "trial", "status", "reason", "metric", "value", "low", "high",
    "unit", "n", "direction", "protocol", "environment",
)  # fmt: skip


def check_frame(frame: pd.DataFrame) -> None:
    absent = [name for name in NEEDED if name not in frame]
    if absent:
        raise BenchError(f"a frame of results lacks the column '{absent[0]}'; make it with bench.load_results()")
    if frame.empty:
        raise BenchError("the frame of results is empty; run `bench run` first")


def only(frame: pd.DataFrame, key: str) -> str:
    found = frame[key].dropna().unique()
    if len(found) > 1:
        names = ", ".join(f"'{name}'" for name in found)
        raise BenchError(
            f"one leaderboard has one {key}, the frame holds {names}; use leaderboards() for one table each"
        )
    return str(found[0]) if len(found) else ""


def current(frame: pd.DataFrame) -> pd.DataFrame:
    """The last trial of each model and seed: an older one is history and must not be averaged with it."""
    last = frame.groupby(["model", "seed"], sort=False).trial.transform("last")
    return frame[frame.trial == last]


def measured_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The finite measurements of complete trials."""
    return frame[(frame.status == "complete") & frame.metric.notna() & np.isfinite(frame.value.astype(float))]


def in_column(measured: pd.DataFrame, column: Column) -> pd.DataFrame:
    """The rows of ``measured`` that may stand in ``column``."""
    here = (
        (measured.metric == column.metric)
        & (measured.unit == column.unit)
        & (measured.direction == column.direction)
        & (measured.protocol.astype(str) == column.protocol)
    )
    if column.environment is not None:
        here &= measured.environment.astype(str) == column.environment
    return measured[here]


def columns_of(measured: pd.DataFrame) -> list[Column]:
    """Distinct quantities in table order (group, importance, name), marked where one metric has several."""
    found: dict[Column, set[int]] = {}
    for keys, part in measured.groupby(
        ["metric", "unit", "direction", "protocol", "environment"], sort=False, dropna=False
    ):
        metric, unit, direction, protocol, environment = (str(key) for key in keys)
        where = environment if group_and_importance(metric, unit)[0] in HARDWARE_GROUPS else None
        column = Column(metric, protocol, where, unit, direction)
        found.setdefault(column, set()).update(int(n) for n in part.n.dropna())
    columns = []
    for column, samples in found.items():
        rivals = [c for c in found if c.metric == column.metric]
        marks = [
            str(getattr(column, key))[:6]
            for key in ("protocol", "environment")
            if len({getattr(c, key) for c in rivals}) > 1
        ]
        columns.append(dataclasses.replace(column, samples=tuple(sorted(samples)), mark="/".join(marks)))
    return sorted(columns, key=lambda c: (GROUPS.index(c.group), c.importance, c.name))


def find_column(name: str, columns: Sequence[Column]) -> Column:
    for column in columns:
        if name in (column.name, column.metric):
            return column
    raise BenchError(f"no measurement '{name}' in these results; {did_you_mean(name, {c.metric for c in columns})}")


def cell_of(measured: pd.DataFrame, column: Column) -> Estimate | None:
    """Mean over seeds with its t interval, of verdicts (0 or 1) the share with Wilson's; the trial's own sampling interval where the
    seed changes nothing or is one."""
    here = in_column(measured, column)
    if here.empty:
        return None
    if here.seed.duplicated().any():
        raise BenchError(
            f"model '{here.model.iloc[0]}', seed {here.seed[here.seed.duplicated()].iloc[0]} has '{column.metric}' twice under one "
            "protocol; a trial measures each quantity once"
        )
    values = here.value.to_numpy(dtype=float)
    seen = set(values)
    yes_or_no = seen == {0.0, 1.0} or (is_verdict(column.metric) and seen <= {0.0, 1.0})
    if yes_or_no and len(values) > 2 and here.low.isna().all():
        return wilson_interval(values.sum(), len(values))
    estimate = t_interval(values)
    low, high = here.low.iloc[0], here.high.iloc[0]
    if np.ptp(values) == 0 and np.isfinite([low, high]).all() and low < high:
        return Estimate(estimate.value, float(low), float(high), estimate.n, "sampling")
    return estimate


def notes_of(measured: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Warnings that measurements carry -> ``metric (model, model)`` each; those that concern the most important column first.

    Warnings that differ in their figures alone are one, with "…" for the figures. What a verdict says of its reasons is no warning.
    """
    if "note" not in measured:
        return {}
    noted = measured[measured.note.notna() & ~measured.metric.map(is_verdict)]
    first: dict[str, int] = {}
    found: dict[str, tuple[str, ...]] = {}
    for _, part in noted.groupby(noted.note.map(_without_figures), sort=False):
        text = str(part.note.iloc[0]) if part.note.nunique() == 1 else _without_figures(part.note.iloc[0])
        found[text] = tuple(
            f"{metric} ({_rows(cells, measured)})" for metric, cells in part.groupby("metric", sort=False)
        )
        first[text] = min(group_and_importance(m, u)[1] for m, u in zip(part.metric, part.unit))
    return {text: found[text] for text in sorted(found, key=first.__getitem__)}


def _without_figures(note: str) -> str:
    """The same text for warnings of one kind; prices are told apart by their dates."""
    return note if note.startswith(PRICE_OF) else re.sub(r"\d+(?:[.,]\d+)*%?", "…", note)


def _rows(cells: pd.DataFrame, measured: pd.DataFrame) -> str:
    """The models whose cells these are; "every row" where no other has the metric."""
    models = list(dict.fromkeys(cells.model))
    every = measured[measured.metric == cells.metric.iloc[0]].model.nunique()
    return "every row" if len(models) == every > 2 else ", ".join(models)
