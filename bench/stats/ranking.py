"""Who is ahead of whom, said no more sharply than the intervals allow. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.errors import BenchError
from bench.stats.intervals import Estimate


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
