"""How often the gate cries wolf on *this* machine, and what it catches: real runs of a version against itself."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import provenance
from bench.gate.ab import ARMS, Name, names_of, worsenings
from bench.gate.blocks import Blocks, Work
from bench.gate.versions import Version
from bench.stats.gate import ALPHA, FIRST_BLOCKS, SECOND_BLOCKS, judge, open_after_first
from bench.stats.intervals import Estimate, wilson_interval

PLANTED = (0.05, 0.10, 0.20)
"""Slowdowns that are planted, one metric of one model at a time."""


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """alarms: share of the unchanged runs in which anything was called worse. open: share in which something stayed inconclusive.

    caught: planted slowdown -> share of the (run, metric) in which that metric was called worse. Wilson intervals.
    """

    family: tuple[Name, ...]
    alarms: Estimate
    open: Estimate
    caught: Mapping[float, Estimate]


def this_version() -> Version:
    """What is installed or lies in the working directory, as `bench run` would find it."""
    here = Path.cwd()
    return Version("this version", str(here), sys.executable, (str(here),), None)


def self_test(
    version: Version,
    work: Work,
    margins: Mapping[str, float],
    runs: int,
    results: Path,
    on_block: Callable[[int, dict[str, Any]], None] = lambda total, found: None,
    alpha: float = ALPHA,
) -> SelfTest:
    """Measure ``runs`` gates of ``version`` against itself, both stages in full. Finished blocks survive Ctrl-C.

    on_block: called after each block with the number of blocks of its stage, in all runs together.
    """
    key = provenance.short_hash(["self-test", version.identity, dataclasses.asdict(work), provenance.cpu_model()])
    cells = [cell["name"] for cell in work.cells]
    stages = {1: runs * FIRST_BLOCKS, 2: runs * SECOND_BLOCKS}
    measured = []
    taken = [
        Blocks(work, dict.fromkeys(ARMS, version), results / "ab" / f"self-test-{key}" / f"run-{run}", lambda found: on_block(stages[found["stage"]], found))
        for run in range(runs)
    ]  # fmt: skip
    for blocks in taken:
        measured.append((blocks.take(1, FIRST_BLOCKS, cells), blocks.take(2, SECOND_BLOCKS, cells)))
    for blocks in taken:
        blocks.close()
    return evaluate(measured, margins, alpha)


def evaluate(
    measured: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]],
    margins: Mapping[str, float],
    alpha: float = ALPHA,
) -> SelfTest:
    """Alarms, open verdicts and power from the blocks (first stage, second stage) of unchanged runs.

    A slowdown by a factor adds its logarithm to every difference, so it is planted by arithmetic on real blocks.
    """
    family = sorted(set.intersection(*(set(names_of([*first, *second])) for first, second in measured)))
    verdicts = [_gate(run, family, margins, {}, alpha) for run in measured]
    caught = {}
    for slowdown in PLANTED:
        hits = [
            _gate(run, family, margins, {name: math.log1p(slowdown)}, alpha)[name] == "worse"
            for run in measured
            for name in family
        ]
        caught[slowdown] = wilson_interval(sum(hits), len(hits))
    alarms = sum("worse" in found.values() for found in verdicts)
    left = sum("inconclusive" in found.values() for found in verdicts)
    return SelfTest(tuple(family), wilson_interval(alarms, len(verdicts)), wilson_interval(left, len(verdicts)), caught)


def _gate(
    run: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    family: Sequence[Name],
    margins: Mapping[str, float],
    planted: Mapping[Name, float],
    alpha: float,
) -> dict[Name, str]:
    """The verdicts of one run of the whole two-stage gate, with ``planted`` added to the differences."""
    text = {name: f"{name[0]} {name[1]}" for name in family}
    stages: list[dict[str, np.ndarray]] = [
        {text[name]: worsenings(blocks, "head", name) + planted.get(name, 0.0) for name in family} for blocks in run
    ]
    allowed = {text[name]: margins[name[1]] for name in family}
    again = open_after_first(stages[0], allowed)
    both = [*run[0], *run[1]]
    control = {text[name]: worsenings(both, "control", name) for name in family}
    decisions = judge(stages[0], {name: stages[1][name] for name in again}, allowed, alpha, control)
    return {name: decision.verdict for name, decision in zip(family, decisions)}


def sentences(found: SelfTest) -> list[str]:
    """The result in words."""

    def share(e: Estimate) -> str:
        assert e.low is not None
        assert e.high is not None
        return f"{round(e.value * e.n)} of {e.n} ({100 * e.value:.0f} per 100, 95 % interval {100 * e.low:.0f} to {100 * e.high:.0f})"

    lines = [
        f"{len(found.family)} gated metrics, the same version on both sides:",
        f"  false alarms: {share(found.alarms)}",
        f"  inconclusive: {share(found.open)}",
        "one metric slowed down, in every run and for every metric:",
    ]
    return lines + [f"  {slowdown:.0%} slower: caught {share(estimate)}" for slowdown, estimate in found.caught.items()]
