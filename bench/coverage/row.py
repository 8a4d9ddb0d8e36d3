"""One simulated coverage: how often an interval held what it claims to hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bench.record import Measurement

LOWEST, HIGHEST = 0.90, 0.99
"""A 95 % interval is as promised where its true coverage lies between these."""

Z = 2.0
"""A simulation contradicts the lower of them where it lies below by more than this many of its own standard errors."""

SELDOM = 0.1
"""Where an interval is offered in fewer of the repetitions, chance has chosen these, and their coverage tells nothing."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A metric, a distribution and a size.

    target: what the interval is for. coverage: the share of repetitions with an interval in which it held the target; None
    where none was offered. offered: the share of repetitions in which one was. bias, sd: of the value against the target.
    half_width: mean half width of the intervals. d: dimensions, m: size of the second sample, None where there is none.
    """

    metric: str
    distribution: str
    n: int
    target: str
    coverage: float | None
    offered: float
    bias: float
    sd: float
    half_width: float | None
    repetitions: int
    d: int | None = None
    m: int | None = None

    @property
    def verdict(self) -> str:
        """``holds``; ``TOO NARROW``: less than 90 %, beyond the simulation's error; ``conservative``: more than 99 %; ``none
        offered``; or ``hardly offered``: in so few repetitions that chance chose them."""
        if self.coverage is None:
            return "none offered"
        if self.offered < SELDOM:
            return "hardly offered"
        if self.coverage < LOWEST - Z * np.sqrt(LOWEST * (1 - LOWEST) / (self.offered * self.repetitions)):
            return "TOO NARROW"
        return "conservative" if self.coverage > HIGHEST else "holds"


def row_of(metric: str, distribution: str, values: Sequence[Measurement], truth: Any, **about: Any) -> Row:
    """The row of repeated measurements ``values``; truth: one number, or one for each of them. about: other fields of Row."""
    truths = np.broadcast_to(np.asarray(truth, dtype=np.float64), len(values))
    offered = [(value.low, value.high, true) for value, true in zip(values, truths) if value.low is not None]
    held = [low <= true <= high for low, high, true in offered]  # type: ignore[operator]
    widths = [(high - low) / 2 for low, high, _ in offered]  # type: ignore[operator]
    errors = np.array([float(value) for value in values]) - truths
    return Row(
        metric=metric,
        distribution=distribution,
        coverage=float(np.mean(held)) if held else None,
        offered=len(offered) / len(values),
        bias=float(errors.mean()),
        sd=float(errors.std()),
        half_width=float(np.mean(widths)) if widths else None,
        repetitions=len(values),
        **about,
    )


def generators(repetitions: int, seed: int) -> Iterator[np.random.Generator]:
    """A generator of its own for each repetition."""
    for repetition in range(repetitions):
        yield np.random.default_rng([seed, repetition])


def simulate(
    metric: str,
    distribution: str,
    n: int,
    truth: float,
    draw: Callable[[], Measurement],
    repetitions: int,
    **about: Any,
) -> Row:
    """The row of ``repetitions`` calls of ``draw``. ``target`` is "true value" unless ``about`` says otherwise."""
    values = [draw() for _ in range(repetitions)]
    return row_of(metric, distribution, values, truth, n=n, **{"target": "true value", **about})
