"""Two sets of trained seeds, one metric: better, worse, equivalent or inconclusive, and what could have been found at all.

Paired by seed where both sides have the same seeds (same seed, same order of data and same evaluation noise), else Welch.
Pure functions, no I/O.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.errors import BenchError
from bench.stats.gate import Verdict, log_margin
from bench.stats.intervals import Estimate, paired_difference, welch_difference
from bench.stats.tests import (
    holm,
    minimum_detectable_effect,
    paired_t_test,
    sign_flip_test,
    smallest_p,
    welch_test,
)

ALPHA = 0.05
"""Family-wise level of ``better`` and ``worse``, and level of ``equivalent``."""

UNCHANGED = "the same value in every seed"

_REMEDY = {
    "n": "score both with as many samples",
    "protocol": "score both under one protocol",
    "environment": "measure both on one machine",
    "budget": "train both under one budget",
}


@dataclasses.dataclass(frozen=True)
class Power:
    """What a t test of one comparison can find, on the scale that is tested. spread: as for minimum_detectable_effect(). n, m: as
    there. bound: the margin on that scale. sign: 1 where more is worse, else -1. back: from that scale to the reported change.
    """

    spread: float
    n: int
    m: int | None
    bound: float
    sign: float
    back: Callable[[float], float]

    def finds(self, level: float) -> float | None:
        """The change for the worse that is shown to be beyond the margin, one-sided at ``level``, with 80 % probability."""
        beyond = minimum_detectable_effect(self.spread, self.n, self.m, level, alternative="greater")
        return None if beyond is None else self.back(self.sign * (self.bound + beyond))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is known of one metric on two sides.

    change: relative change of the value (``head / base - 1``) or, with ``relative`` False, the difference ``head - base``; with
    its 95 % interval. Its sign is that of the value, not of its goodness.
    p_worse, p_better: of the hypotheses "not worse (better) than the margin". p_equivalent: of "not within the margin".
    p_not_worse: of "worse by the margin or more".
    p_adjusted: of the alarm, after Holm's correction over the family; 1 before decide() or gate().
    p_exact: two-sided exact p-value of "no difference" (paired: sign flips); None unpaired.
    smallest_p: the smallest p-value that an exact test of so few seeds can give. detectable: the change for the worse that this
    verdict, with its margin and its correction for the family, finds with 80 % probability; in the units and with the sign of
    ``change``, infinite where it finds none; None where there is no spread to judge by, and before decide() or gate().
    power: what ``detectable`` is computed from; None where there is no spread to judge by.
    """

    metric: str
    change: Estimate | None
    relative: bool
    margin: float
    paired: bool
    p_worse: float = 1.0
    p_better: float = 1.0
    p_equivalent: float = 1.0
    p_not_worse: float = 1.0
    p_adjusted: float = 1.0
    p_exact: float | None = None
    smallest_p: float = 1.0
    detectable: float | None = None
    power: Power | None = None
    verdict: Verdict = "inconclusive"
    reason: str = ""


def compare_seeds(
    metric: str,
    base: Mapping[int, float],
    head: Mapping[int, float],
    direction: str,
    margin: float = 0.05,
    relative: bool = True,
) -> Comparison:
    """Compare two sides of one metric; the verdict is still open, see decide().

    base, head: seed -> value of the trials that completed. direction: which way is better. margin: the change that does not
    matter, as a share of base (``relative``: on the log scale where all values are positive, else as a share of the mean of
    base) or in units of the metric. Paired where both sides share their seeds; seeds of one side only are left out where at
    least three are shared.
    """
    if direction not in ("higher", "lower"):
        raise BenchError(f"'{metric}' has no better direction; compare metrics that have one")
    if not (math.isfinite(margin) and margin >= 0):
        raise BenchError(f"the margin of '{metric}' must be zero or a positive number, got {margin}")
    if not base or not head:
        side = "base" if not base else "head"
        return not_comparable(metric, f"no completed trial of {side} has it", margin, relative)
    shared = sorted(set(base) & set(head))
    paired = len(shared) >= 3 or (set(base) == set(head))
    a, b = _values(base, shared if paired else sorted(base)), _values(head, shared if paired else sorted(head))
    scale = _scale(a, b, margin, relative)
    if scale is None:
        return not_comparable(
            metric, "base is zero, so that no relative change exists; give an absolute margin", margin, relative
        )
    a, b, bound, back = scale
    sign = 1.0 if direction == "lower" else -1.0  # positive is worse
    difference = paired_difference(a, b) if paired else welch_difference(a, b)
    test = paired_t_test if paired else welch_test
    p_not_worse = test(sign * a, sign * b, bound, "less").p
    p_not_better = test(sign * a, sign * b, -bound, "greater").p
    spread = (b - a).std(ddof=1) if paired and a.size > 1 else _pooled(a, b)
    testable = paired or min(a.size, b.size) > 1
    power = Power(float(spread), a.size, None if paired else b.size, bound, sign, back) if testable else None
    low, high = (None if end is None else back(end) for end in (difference.low, difference.high))
    return Comparison(
        metric=metric,
        change=Estimate(back(difference.value), low, high, difference.n, difference.method),
        relative=relative,
        margin=margin,
        paired=paired,
        p_worse=test(sign * a, sign * b, bound, "greater").p,
        p_better=test(sign * a, sign * b, -bound, "less").p,
        p_equivalent=max(p_not_worse, p_not_better),
        p_not_worse=p_not_worse,
        p_exact=sign_flip_test(b - a, alternative="two-sided").p if paired else None,
        smallest_p=smallest_p(a.size, None if paired else b.size),
        power=power,
    )


def compare_exact(metric: str, base: float, head: float, direction: str, tolerance: float = 0.0) -> Comparison:
    """Compare a number that the same code must reproduce: within ``tolerance`` is equivalent, beyond it better or worse.

    tolerance: 0 for what is deterministic, else about three standard deviations of the sampling noise, measured once.
    """
    if direction not in ("higher", "lower"):
        raise BenchError(f"'{metric}' has no better direction; compare metrics that have one")
    difference = 0.0 if head == base else head - base  # also of two equal infinities
    change = Estimate(difference, difference, difference, 1, "exact")
    verdict: Verdict = "equivalent"
    if not abs(difference) <= tolerance:  # a NaN is no pass
        verdict = "worse" if (difference < 0) != (direction == "lower") or math.isnan(difference) else "better"
    reason = f"differs by {difference:.3g}, tolerance {tolerance:.3g}"
    return Comparison(metric, change, False, tolerance, False, verdict=verdict, reason=reason)


def not_comparable(metric: str, reason: str, margin: float = 0.05, relative: bool = True) -> Comparison:
    """The comparison of two sides that must not be compared, with the reason."""
    return Comparison(metric, None, relative, margin, False, verdict="not comparable", reason=reason)


def differing(base: Mapping[str, object], head: Mapping[str, object], keys: Sequence[str]) -> str:
    """Why two sides must not be compared: the keys that differ, with both values and the remedy; "" where they agree."""
    parts = [
        f"{key} differs ({base.get(key)} against {head.get(key)}): {_REMEDY.get(key, f'use one {key} for both')}"
        for key in keys
        if base.get(key) != head.get(key)
    ]
    return "; ".join(parts)


def decide(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> list[Comparison]:
    """Verdicts for a family of comparisons: Holm over all of them for ``worse`` and ``better`` together.

    ``worse`` and ``better`` mean beyond the margin; ``equivalent`` means within it on both sides (two one-sided tests at 5 %:
    Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", 1987); all else is ``inconclusive``.
    """
    judged = [c for c in comparisons if _is_open(c)]
    # One side at most can be true, so each metric counts once, with twice the smaller of its one-sided p-values.
    adjusted = dict(zip(map(id, judged), holm([min(1.0, 2 * min(c.p_worse, c.p_better)) for c in judged])))
    level = alpha / 2 / max(1, len(judged))
    return [
        _verdict(_with_power(c, level), float(adjusted[id(c)]), alpha) if id(c) in adjusted else c for c in comparisons
    ]


def gate(comparisons: Sequence[Comparison], alpha: float = 0.01) -> list[Comparison]:
    """Verdicts of a gate: only getting worse is an alarm, with the chance of any false alarm in the family at most ``alpha``.

    ``equivalent`` means not worse than the margin, shown at 5 %; so does ``better``, beyond the margin on the other side.
    """
    judged = [c for c in comparisons if _is_open(c)]
    adjusted = dict(zip(map(id, judged), holm([c.p_worse for c in judged])))
    level = alpha / max(1, len(judged))
    return [
        _gated(_with_power(c, level), float(adjusted[id(c)]), alpha) if id(c) in adjusted else c for c in comparisons
    ]


def _with_power(c: Comparison, level: float) -> Comparison:
    """level: one-sided, of the first step of Holm's procedure, which a change of this metric alone has to pass."""
    return dataclasses.replace(c, detectable=None if c.power is None else c.power.finds(level))


def _is_open(c: Comparison) -> bool:
    """Whether tests decide: neither incomparable nor settled by an exact comparison."""
    return c.verdict != "not comparable" and c.change is not None and c.change.method != "exact"


def _gated(c: Comparison, adjusted: float, alpha: float) -> Comparison:
    c = dataclasses.replace(c, p_adjusted=adjusted)
    margin = _amount(c, c.margin)
    if _is_unchanged(c):
        return dataclasses.replace(c, verdict="equivalent", reason=UNCHANGED)
    if adjusted <= alpha:
        return dataclasses.replace(c, verdict="worse", reason=f"worse by more than {margin}, adjusted p {_p(adjusted)}")
    if c.p_better <= ALPHA:
        return dataclasses.replace(c, verdict="better", reason=f"better by more than {margin}, p {_p(c.p_better)}")
    if c.p_not_worse <= ALPHA:
        return dataclasses.replace(
            c, verdict="equivalent", reason=f"not worse by {margin} or more, p {_p(c.p_not_worse)}"
        )
    return dataclasses.replace(c, verdict="inconclusive", reason=_undecided(c))


def _is_unchanged(c: Comparison) -> bool:
    """Whether every seed has the very value that it had: within any margin, a margin of 0 too."""
    return c.change is not None and c.change.bounds == (0.0, 0.0)


def _undecided(c: Comparison) -> str:
    if c.detectable is None:
        return "one seed: nothing can be said; train at least three"
    smallest = f"; smallest attainable exact p {c.smallest_p:.2g}"
    if not findable(c.detectable, c.relative):
        return f"no difference shown; so few seeds show none at this level, however large it is{smallest}"
    return f"no difference shown; so few seeds find {_change(c, c.detectable)} four times in five{smallest}"


def findable(change: float, relative: bool) -> bool:
    """Whether a change is one that anything could have: not infinite, and no factor of ten thousand and more up or down."""
    return math.isfinite(change) and (not relative or 1e-4 < 1 + change < 1e4)


def _change(c: Comparison, value: float) -> str:
    return f"a change of {'-' if value < 0 else '+'}{_amount(c, abs(value))}"


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"


def _amount(c: Comparison, value: float) -> str:
    return f"{value:.3g}" if not c.relative else f"{value:.3g} of base" if value < 0.001 else f"{100 * value:.3g} %"


def _verdict(c: Comparison, adjusted: float, alpha: float) -> Comparison:
    c = dataclasses.replace(c, p_adjusted=adjusted)
    margin = _amount(c, c.margin)
    if _is_unchanged(c):
        return dataclasses.replace(c, verdict="equivalent", reason=UNCHANGED)
    if adjusted <= alpha:
        side: Verdict = "worse" if c.p_worse < c.p_better else "better"
        return dataclasses.replace(c, verdict=side, reason=f"{side} by more than {margin}, adjusted p {_p(adjusted)}")
    if c.p_equivalent <= ALPHA:
        return dataclasses.replace(
            c, verdict="equivalent", reason=f"within {margin} on both sides, p {_p(c.p_equivalent)}"
        )
    return dataclasses.replace(c, verdict="inconclusive", reason=_undecided(c))


def _values(side: Mapping[int, float], seeds: Sequence[int]) -> np.ndarray:
    return np.array([side[seed] for seed in seeds], dtype=float)


def _scale(
    a: np.ndarray, b: np.ndarray, margin: float, relative: bool
) -> tuple[np.ndarray, np.ndarray, float, Callable[[float], float]] | None:
    """(a, b, margin, way back to the reported change) on the scale that is tested; None where no relative change exists."""
    if not relative:
        return a, b, margin, float
    if (a > 0).all() and (b > 0).all():
        return np.log(a), np.log(b), log_margin(margin) if margin else 0.0, relative_change
    unit = abs(float(a.mean()))
    if unit == 0:
        return None
    return a / unit, b / unit, margin, float


def relative_change(log_ratio: float) -> float:
    """A difference of logarithms as a relative change; infinite beyond what a float holds."""
    return math.expm1(log_ratio) if log_ratio < 700 else math.inf


def _pooled(a: np.ndarray, b: np.ndarray) -> float:
    freedom = a.size + b.size - 2
    if freedom < 1:
        return math.nan
    return math.sqrt((((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / freedom)
