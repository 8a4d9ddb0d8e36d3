"""The gate for speed and memory: blocked comparisons of two versions, in two stages, with a stated chance of a false alarm.

A *block* runs both versions once, side by side in random order, and gives one difference ``d = log(head) - log(base)`` a
metric, turned so that positive is worse. Drift of the machine hits both halves of a block alike and drops out; the sign-flip
test needs nothing but the symmetry that the random order provides. Pure functions, no I/O: the caller measures.

    open_after_first(first, margins)  -> which metrics need the second stage
    judge(first, second, margins)     -> one Decision a metric

Only fresh blocks of the second stage can raise an alarm, with Holm's correction over the whole family, so the first stage may
leave open whatever it likes: P(any false alarm) <= ALPHA where nothing got worse by more than its margin. What the first stage
cannot show to be within its margin is left open, suspects and merely noisy metrics alike, so that few verdicts stay open.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import BenchError
from bench.stats.intervals import Estimate, finite_values
from bench.stats.tests import hodges_lehmann, holm, sign_flip_interval, sign_flip_test

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "not comparable"]

FIRST_BLOCKS = 8
"""Blocks of the first stage: p can reach 1/256."""

SECOND_BLOCKS = 14
"""Fresh blocks of the second stage: p can reach 1/16384, enough for a family of 163 metrics at 1 %."""

ALPHA = 0.01
"""Chance of any false alarm in the family."""

PASS_LEVEL = 0.025
"""Level at which a metric is shown to be within its margin, in each of the two stages: a metric that is worse by just the margin
passes in at most 5 % of gates."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the gate says of one metric.

    verdict: ``worse``: beyond the margin, adjusted p <= alpha; ``better``: beyond the margin the other way; ``equivalent``: shown
    not to be worse than the margin; ``inconclusive``: neither shown.
    change: relative change of the metric's cost, ``ratio - 1`` (0.1 = 10 % worse), with its 95 % interval.
    p: of "not worse than the margin" from the second stage (1 where the first stage passed it). p_adjusted: after Holm.
    """

    metric: str
    verdict: Verdict
    change: Estimate
    margin: float
    p: float
    p_adjusted: float
    blocks: int
    reason: str


def log_margin(margin: float) -> float:
    """A relative margin (0.05 = 5 %) on the scale of the differences."""
    if not (math.isfinite(margin) and margin > 0):
        raise BenchError(f"a margin is a positive share such as 0.05, got {margin}")
    return math.log1p(margin)


def worsening(base: ArrayLike, head: ArrayLike, direction: str) -> np.ndarray:
    """One difference a block, ``log(head) - log(base)``, turned so that positive is worse for ``direction``."""
    a, b = finite_values(base, "base"), finite_values(head, "head")
    if a.size != b.size:
        raise BenchError(f"a block measures both versions, got {a.size} values of base and {b.size} of head")
    if (a <= 0).any() or (b <= 0).any():
        raise BenchError("times, rates and memory are positive; a value of zero or below was measured")
    if direction not in ("higher", "lower"):
        raise BenchError(f"a direction is 'higher' or 'lower', got '{direction}'")
    return (np.log(b) - np.log(a)) * (1 if direction == "lower" else -1)


def open_after_first(first: Mapping[str, ArrayLike], margins: Mapping[str, float]) -> list[str]:
    """The metrics that the first stage does not show to be within their margin: these need fresh blocks."""
    return [name for name, d in first.items() if not _within(d, _margin(name, margins))]


def judge(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    margins: Mapping[str, float],
    alpha: float = ALPHA,
    control: Mapping[str, ArrayLike] | None = None,
) -> list[Decision]:
    """Decide on every metric of ``first``.

    first, second: metric -> differences of its blocks (see worsening()); ``second`` holds those of open_after_first().
    margins: metric -> relative margin. control: metric -> differences of base against itself, taken in the same run: where
    their centre lies beyond half the margin the machine is too noisy and an alarm is withdrawn as inconclusive.
    """
    p = dict.fromkeys(first, 1.0)
    for name, d in second.items():
        if name not in p:
            raise BenchError(
                f"the second stage measured '{name}', which the first did not; use the same family in both"
            )
        p[name] = sign_flip_test(d, _margin(name, margins), "greater").p
    adjusted = dict(zip(p, holm(list(p.values()))))
    return [
        _decide(name, second.get(name, first[name]), name in second, _margin(name, margins), p[name], float(adjusted[name]), alpha,
                (control or {}).get(name))
        for name in first
    ]  # fmt: skip


def noise_margin(control: ArrayLike, least: float = 0.05) -> float:
    """A margin that this machine can resolve: ``least``, or twice the spread of base against itself where that is more.

    The spread is 1.4826 times the median absolute value of the differences, their standard deviation if they are normal.
    """
    spread = 1.4826 * float(np.median(np.abs(finite_values(control, "control"))))
    return max(least, math.expm1(2 * spread))


def exit_code(decisions: Sequence[Decision]) -> int:
    """1 where something is worse, else 4 where something is inconclusive, else 0."""
    verdicts = {decision.verdict for decision in decisions}
    return 1 if "worse" in verdicts else 4 if verdicts & {"inconclusive", "not comparable"} else 0


def _decide(
    name: str,
    d: ArrayLike,
    fresh: bool,
    margin: float,
    p: float,
    adjusted: float,
    alpha: float,
    control: ArrayLike | None,
) -> Decision:
    noise = 0.0 if control is None else hodges_lehmann(control)
    verdict: Verdict
    if adjusted <= alpha and abs(noise) > margin / 2:
        verdict = "inconclusive"
        reason = f"the machine is too noisy: base differs from itself by {math.expm1(abs(noise)):.1%}"
    elif adjusted <= alpha:
        verdict, reason = "worse", f"worse by more than {math.expm1(margin):.3g} of base"
    elif sign_flip_test(d, -margin, "less").p <= PASS_LEVEL:
        verdict, reason = "better", f"better by more than {math.expm1(margin):.3g} of base"
    elif _within(d, margin):
        verdict, reason = "equivalent", "not worse than the margin"
    else:
        verdict = "inconclusive"
        reason = "neither worse than the margin nor within it" if fresh else "needs the blocks of the second stage"
    size = int(np.size(d))
    interval = sign_flip_interval(d)
    low, high = (None if end is None else math.expm1(end) for end in (interval.low, interval.high))
    change = Estimate(math.expm1(interval.value), low, high, size, interval.method)
    return Decision(name, verdict, change, math.expm1(margin), p, adjusted, size, reason)


def _within(d: ArrayLike, margin: float) -> bool:
    return sign_flip_test(d, margin, "less").p <= PASS_LEVEL


def _margin(name: str, margins: Mapping[str, float]) -> float:
    if name not in margins:
        raise BenchError(f"the gate has no margin for '{name}'; declare one")
    return log_margin(margins[name])
