"""Frame of results -> Overall: the models of a suite over all its data sets by one measurement, with honest intervals.

The methods are those of "Deep reinforcement learning at the edge of the statistical precipice" (2021, arXiv 2108.13264), in
bench.stats.aggregate, and mean ranks with the probability of the best one, in bench.stats.ranking.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError
from bench.report.cells import check_frame, current, in_column, measured_rows
from bench.report.leaderboard import Leaderboard, leaderboard
from bench.stats.aggregate import aggregate, normalised, performance_profile, probability_of_improvement
from bench.stats.intervals import Estimate
from bench.stats.ranking import RankEstimate, mean_ranks, pairwise_p_values

if TYPE_CHECKING:
    import pandas as pd

THRESHOLDS = (0.5, 0.75, 0.9)
"""Scores at which the performance profile is read."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """One model with a value for every data set and seed.

    ranks: mean rank over data sets, None with a single seed. score: interquartile mean of its scores, 0 for ``worst`` and 1 for
    the floor; profile: share of its runs that score above each threshold, with intervals. Both None without these anchors.
    """

    model: str
    ranks: RankEstimate | None
    score: Estimate | None
    profile: tuple[Estimate, ...] | None


@dataclasses.dataclass(frozen=True)
class Overall:
    """One suite. standings: best first. left_out: model -> why it is not ranked. datasets: what they rest on.

    improvement: ``improvement[i][j]`` = how often a run of i is better than a run of j on the same data set (None: i = j).
    p: Holm-adjusted p-values of all pairs, of the mean score over data sets by seed; None where seeds or anchors lack.
    worst: the baseline that scores 0, "" where the results lack it or the floor.
    """

    suite: str
    metric: str
    direction: str
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    worst: str
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    improvement: tuple[tuple[Estimate | None, ...], ...]
    p: np.ndarray | None


def overall(frame: pd.DataFrame, metric: str | None = None, worst: str = "noise") -> Overall:
    """Rank the models of one suite over its data sets.

    frame: tidy results of one suite and budget. metric: what ranks; by default what ranks leaderboards. worst: the baseline whose
    score is 0. Raises BenchError where no model is complete on every data set.
    """
    check_frame(frame)
    parts = {str(name): part for name, part in frame.groupby("dataset", sort=False)}
    boards = [leaderboard(part, rank_by=metric) for part in parts.values()]
    columns = {board.rank_by.metric if board.rank_by else "" for board in boards}
    if len(columns) > 1 or "" in columns:
        raise BenchError("the data sets share no measurement to rank by; name one with --metric")
    complete, left_out = _complete(boards)
    if not complete:
        reasons = "; ".join(f"{model}: {why}" for model, why in left_out.items())
        raise BenchError(
            f"no model is complete on every data set ({reasons or 'none was trained'}); run the rest first"
        )
    seeds = sorted({seed for board in boards for seed in board.seeds})
    values = {model: _matrix(model, parts, boards, seeds) for model in complete}
    column = boards[0].rank_by
    assert column is not None
    anchors = _anchors(boards, worst)
    sign = 1.0 if column.direction == "higher" else -1.0
    scores = {m: sign * x if anchors is None else normalised(x, *anchors) for m, x in values.items()}
    ranks = _ranks(list(values.values()), column.direction, len(parts))
    order = sorted(range(len(complete)), key=lambda i: (_first(ranks[i]), -float(np.nanmean(scores[complete[i]]))))
    names = [complete[i] for i in order]
    return Overall(
        suite=boards[0].suite,
        metric=column.metric,
        direction=column.direction,
        datasets=tuple(parts),
        seeds=tuple(seeds),
        worst=worst if anchors is not None else "",
        standings=tuple(_standing(complete[i], ranks[i], scores[complete[i]], anchors is not None) for i in order),
        left_out=left_out,
        improvement=_improvement([scores[name] for name in names]),
        p=_pairwise([scores[name] for name in names]) if anchors is not None or len(parts) == 1 else None,
    )


def _complete(boards: Sequence[Leaderboard]) -> tuple[list[str], dict[str, str]]:
    """The models that every board ranks, and why the other trained ones are left out."""
    trained = list(
        dict.fromkeys(row.model for b in boards for row in b.rows if row.section in ("ranked", "incomplete"))
    )
    left_out = {}
    for model in trained:
        for board in boards:
            row = next((row for row in board.rows if row.model == model), None)
            if row is None or row.section != "ranked":
                left_out[model] = f"{board.dataset}: {'not run' if row is None else row.seeds_text}"
                break
    return [model for model in trained if model not in left_out], left_out


def _matrix(
    model: str, parts: Mapping[str, pd.DataFrame], boards: Sequence[Leaderboard], seeds: Sequence[int]
) -> np.ndarray:
    """Values of a model, ``(seeds, data sets)``, NaN where a data set has no such seed."""
    out = np.full((len(seeds), len(boards)), np.nan)
    for task, (part, board) in enumerate(zip(parts.values(), boards)):
        assert board.rank_by is not None
        own = measured_rows(current(part[part.model == model]))
        for seed, value in in_column(own, board.rank_by)[["seed", "value"]].itertuples(index=False):
            out[seeds.index(int(seed)), task] = value
    return out


def _anchors(boards: Sequence[Leaderboard], worst: str) -> tuple[list[float], list[float]] | None:
    """(scores of 0, scores of 1), one a data set: the baseline ``worst`` and the floor; None where one is missing."""
    low, high = [], []
    for board in boards:
        column = board.rank_by
        assert column is not None
        bottom = [row.cells[column].value for row in board.rows if row.model == worst and column in row.cells]
        top = [row.cells[column].value for row in board.section("floor") if column in row.cells]
        if not bottom or not top or bottom[0] == top[0]:
            return None
        low.append(bottom[0])
        high.append(top[0])
    return low, high


def _ranks(values: Sequence[np.ndarray], direction: str, tasks: int) -> list[RankEstimate | None]:
    cells = [[x[np.isfinite(x[:, task]), task] for task in range(tasks)] for x in values]
    if min(cell.size for model in cells for cell in model) < 2:
        return [None] * len(values)
    return list(mean_ranks(cells, [direction] * tasks))


def _first(ranks: RankEstimate | None) -> float:
    return 0.0 if ranks is None else ranks.mean


def _standing(model: str, ranks: RankEstimate | None, scores: np.ndarray, anchored: bool) -> Standing:
    if not anchored:
        return Standing(model, ranks, None, None)
    read = performance_profile(scores, THRESHOLDS)
    runs = int(np.isfinite(scores).sum())
    profile = tuple(
        Estimate(float(s), float(lo), float(hi), runs, "wilson") for s, lo, hi in zip(read.share, read.low, read.high)
    )
    return Standing(model, ranks, aggregate(scores), profile)


def _improvement(scores: Sequence[np.ndarray]) -> tuple[tuple[Estimate | None, ...], ...]:
    table: list[list[Estimate | None]] = [[None] * len(scores) for _ in scores]
    for i, j in itertools.combinations(range(len(scores)), 2):
        e = table[i][j] = probability_of_improvement(scores[j], scores[i])
        ends = (None, None) if e.low is None or e.high is None else (1 - e.high, 1 - e.low)
        table[j][i] = e._replace(value=1 - e.value, low=ends[0], high=ends[1])
    return tuple(map(tuple, table))


def _pairwise(scores: Sequence[np.ndarray]) -> np.ndarray | None:
    """Tests of all pairs on the mean score over data sets, by seed, over the seeds that every data set has."""
    whole = np.isfinite(np.stack(scores)).all(axis=(0, 2))
    if whole.sum() < 2 or len(scores) < 2:
        return None
    return pairwise_p_values([x[whole].mean(axis=1) for x in scores], paired=True)
