"""Who is ahead of whom, said no more sharply than the intervals allow. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bench.errors import BenchError
from bench.stats.intervals import Estimate, finite_values
from bench.stats.tests import holm, paired_t_test, welch_test


def beats(a: Estimate | None, b: Estimate | None, direction: str) -> bool:
    """Whether the whole interval of ``a`` lies on the better side of the whole interval of ``b``.

    False where either is missing or has no confidence interval (one or two seeds): such a number beats nothing and is beaten
    by nothing.
    """
    ours, theirs = a and a.bounds, b and b.bounds
    if ours is None or theirs is None:
        return False
    if direction == "lower":
        return ours[1] < theirs[0]
    if direction == "higher":
        return ours[0] > theirs[1]
    raise BenchError(f"a direction is 'higher' or 'lower', got '{direction}'")


def rank_ranges(estimates: Sequence[Estimate], direction: str) -> list[tuple[int, int]]:
    """Best and worst rank that each estimate can hold, from the overlap of intervals.

    ``best = 1 + number that beat it``, ``worst = number of all - number that it beats`` (the rule of Chatbot Arena, "An open
    platform for evaluating LLMs by human preference", 2024, arXiv 2403.04132, here for both ends). Conservative: two 95 %
    intervals that do not overlap differ at a level well below 5 %.
    """
    return [
        (
            1 + sum(beats(b, a, direction) for b in estimates),
            len(estimates) - sum(beats(a, b, direction) for b in estimates),
        )
        for a in estimates
    ]


def pareto_front(points: Sequence[Sequence[Estimate]], directions: Sequence[str]) -> list[bool]:
    """Which rows no other row dominates, where differences inside the intervals count for nothing.

    A dominates B when B beats A in no objective and A beats B in at least one (:func:`beats`). With three or more objectives
    that relation can run in circles; rows of one circle do not push each other off, so the front is never empty. With
    zero-width intervals it is the ordinary Pareto front.

    points: ``points[row][objective]``. directions: one per objective.
    """
    for row in points:
        if len(row) != len(directions):
            raise BenchError(f"a row has {len(row)} objectives, but {len(directions)} directions are given")
    n = len(points)
    dominates = np.zeros((n, n), dtype=bool)
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            ahead = any(beats(x, y, d) for x, y, d in zip(a, b, directions))
            behind = any(beats(y, x, d) for x, y, d in zip(a, b, directions))
            dominates[i, j] = ahead and not behind
    reaches = dominates.copy()
    for k in range(n):  # Warshall's transitive closure
        reaches |= reaches[:, k : k + 1] & reaches[k : k + 1, :]
    return [not bool((dominates[:, i] & ~reaches[i, :]).any()) for i in range(n)]


class RankEstimate(NamedTuple):
    """mean: mean rank over tasks, from the mean scores. low, high: its 95 % interval. best: probability of the best mean rank."""

    mean: float
    low: float
    high: float
    best: float


def mean_ranks(
    cells: Sequence[Sequence[ArrayLike]],
    directions: Sequence[str],
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> list[RankEstimate]:
    """Mean rank of each model over tasks (data sets or metrics), its interval and the probability of being first.

    Every draw gives each cell a mean from its posterior under the Jeffreys prior, ``mean + s/sqrt(n) t(n-1)`` (Gelman et al.,
    "Bayesian data analysis", section 3.2), ranks the models in every task again and averages the ranks. That is what a
    bootstrap of seeds aims at, with the tails that 3 to 10 seeds really have. Tasks are fixed. Two seeds a cell at least.

    cells: ``cells[model][task]`` holds the scores of the seeds. directions: ``higher`` or ``lower``, one a task.
    """
    for model in cells:
        if len(model) != len(directions):
            raise BenchError(
                f"a model has {len(model)} tasks, but {len(directions)} directions are given; rank complete rows only"
            )
    tasks = []
    for task in range(len(directions)):
        columns = [finite_values(model[task], "scores") for model in cells]
        if min((x.size for x in columns), default=2) < 2:
            raise BenchError("a probability of being first needs at least two seeds in every cell")
        tasks.append([(float(x.mean()), float(x.std(ddof=1) / np.sqrt(x.size)), x.size - 1) for x in columns])
    return _rank_draws(tasks, directions, level, draws, seed)


def mean_ranks_of_estimates(
    cells: Sequence[Sequence[Estimate]],
    directions: Sequence[str],
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> list[RankEstimate] | None:
    """mean_ranks() from means with 95 % t intervals instead of the scores themselves; None where a cell has no t interval.

    cells: ``cells[model][task]``. A mean of equal scores (interval of no width) counts as certain.
    """
    tasks = []
    for task in range(len(directions)):
        column = [model[task] for model in cells]
        if any(e.method != "t" or e.half_width is None or e.n < 3 for e in column):
            return None
        quantile = [float(special.stdtrit(e.n - 1, 0.975)) for e in column]
        tasks.append([(e.value, (e.half_width or 0.0) / q, e.n - 1) for e, q in zip(column, quantile)])
    return _rank_draws(tasks, directions, level, draws, seed)


def _rank_draws(
    tasks: Sequence[Sequence[tuple[float, float, int]]], directions: Sequence[str], level: float, draws: int, seed: int
) -> list[RankEstimate]:
    """tasks: ``tasks[task][model]`` = (mean, standard error, degrees of freedom)."""
    rng = np.random.default_rng(seed)
    models = len(tasks[0]) if tasks else 0
    observed, drawn = np.zeros(models), np.zeros((draws, models))
    for columns, direction in zip(tasks, directions):
        if direction not in ("higher", "lower"):
            raise BenchError(f"a direction is 'higher' or 'lower', got '{direction}'")
        sign = -1.0 if direction == "higher" else 1.0
        means, errors = np.array([c[0] for c in columns]), np.array([c[1] for c in columns])
        tails = np.stack([rng.standard_t(freedom, draws) for _, _, freedom in columns], axis=1)
        observed += _ranks(sign * means[None])[0] / len(directions)
        drawn += _ranks(sign * (means + errors * tails)) / len(directions)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    first = drawn <= drawn.min(axis=1, keepdims=True) + 1e-9
    best = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return [RankEstimate(*map(float, row)) for row in zip(observed, low, high, best)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """``(draws, models)`` -> ranks along models, 1 for the smallest, ties sharing the mean of their ranks."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return below + (equal + 1) / 2


def pairwise_p_values(groups: Sequence[ArrayLike], paired: bool) -> np.ndarray:
    """Holm-adjusted two-sided p-values of all pairs, ``(k, k)``, 1 on the diagonal: t tests paired by position, or Welch's."""
    k = len(groups)
    upper = np.triu_indices(k, 1)
    test = paired_t_test if paired else welch_test
    adjusted = holm([test(groups[int(i)], groups[int(j)]).p for i, j in zip(*upper)])
    p = np.ones((k, k))
    p[upper] = adjusted
    return np.minimum(p, p.T)


def bradley_terry(wins: ArrayLike, anchor: int = 0, ridge: float = 0.1, level: float = 0.95) -> list[Estimate]:
    """Strengths from pairwise preferences, as log-odds of being preferred to the anchor (Bradley & Terry, Biometrika 1952).

    Penalised maximum likelihood: the ridge keeps the answer finite where one model wins always, which is normal with few
    votes. Intervals from the curvature of the penalised likelihood. The anchor has strength 0 and no width.

    wins: ``(k, k)``, ``wins[i, j]`` = how often i was preferred to j; count a tie as half a win for both.
    ridge: weight of ``sum(strength²) / 2``.
    """
    w = np.asarray(wins, dtype=float)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not np.isfinite(w).all() or (w < 0).any():
        raise BenchError(f"wins is a square table of counts (k, k) that are not negative, got shape {w.shape}")
    k, played = w.shape[0], w + w.T
    np.fill_diagonal(played, 0.0)
    strength = np.zeros(k)
    for _ in range(100):  # Newton's method on a strictly concave function
        chance = special.expit(strength[:, None] - strength[None])
        gradient = (w * (1 - np.eye(k)) - played * chance).sum(axis=1) - ridge * strength
        weight = played * chance * (1 - chance)
        curvature = np.diag(weight.sum(axis=1) + ridge) - weight
        step = np.linalg.solve(curvature, gradient)
        strength = strength + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-12:
            break
    covariance = np.linalg.inv(curvature)
    z = float(special.ndtri(0.5 + level / 2))
    variance = np.diag(covariance) + covariance[anchor, anchor] - 2 * covariance[:, anchor]
    value, half = strength - strength[anchor], z * np.sqrt(np.maximum(variance, 0.0))
    return [
        Estimate(float(v), float(v - h), float(v + h), int(n), "curvature")
        for v, h, n in zip(value, half, played.sum(axis=1))
    ]
