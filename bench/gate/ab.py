"""`bench ab`: two versions of the code, timed in blocks, judged in two stages with a stated chance of a false alarm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import provenance
from bench.gate.blocks import METRICS, BlockFailure, Blocks, Work
from bench.gate.versions import Version
from bench.report.verdicts import Line, Outcome, Verdicts
from bench.stats.compare import relative_change
from bench.stats.gate import ALPHA, FIRST_BLOCKS, SECOND_BLOCKS, Decision, judge, log_margin, open_after_first
from bench.stats.intervals import Estimate, median_interval
from bench.stats.tests import hodges_lehmann, minimum_detectable_effect

ARMS = ("base", "head", "control")
"""``control`` is base once more: the A/A control inside every block."""

Name = tuple[str, str]
"""(cell, metric): one member of the family."""


def run_ab(
    base: Version,
    head: Version,
    work: Work,
    margins: Mapping[str, float],
    results: Path,
    on_block: Callable[[int, dict[str, Any]], None] = lambda total, found: None,
    alpha: float = ALPHA,
) -> Verdicts:
    """Measure and judge. margins: metric -> the share that does not matter. results: where finished blocks are kept.

    on_block: called after each block with the number of blocks of its stage. Ctrl-C loses the running block only; the same call
    goes on from there.
    """
    key = provenance.short_hash([base.identity, head.identity, dataclasses.asdict(work), provenance.cpu_model()])
    total = [FIRST_BLOCKS]
    arms = dict(zip(ARMS, (base, head, base)))
    blocks = Blocks(work, arms, results / "ab" / key, lambda found: on_block(total[0], found))
    try:
        first = blocks.take(1, FIRST_BLOCKS, [cell["name"] for cell in work.cells])
        broken = failures(first)
        family = [name for name in names_of(first) if name[0] not in broken]
        allowed = {name: margins[name[1]] for name in family}
        again = open_names(first, family, allowed)
        total[0] = SECOND_BLOCKS
        suspects, of = sorted({cell for cell, _ in again}), sorted({metric for _, metric in again})
        second = blocks.take(2, SECOND_BLOCKS, suspects, of) if again else []
        broken |= failures(second)
    except BlockFailure as failure:
        lines = [
            Line(c["name"], m, "failed", str(failure), *METRICS[m], margin=margins[m])
            for c in work.cells
            for m in work.metrics
        ]
        return Verdicts("ab", base.label, head.label, alpha, tuple(lines))
    blocks.close()
    lines = decide(first, second, again, [name for name in family if name[0] not in broken], allowed, alpha)
    lines += [line for cell in broken for line in _broken(cell, broken[cell], first + second, work, margins)]
    return Verdicts("ab", base.label, head.label, alpha, tuple(lines), tuple(_notes(first + second, work)))


def decide(
    first: Sequence[dict[str, Any]],
    second: Sequence[dict[str, Any]],
    again: Sequence[Name],
    family: Sequence[Name],
    margins: Mapping[Name, float],
    alpha: float = ALPHA,
) -> list[Line]:
    """The lines of the family from the blocks of both stages."""
    if not family:
        return []
    decisions = judge(
        {_joined(name): worsenings(first, "head", name) for name in family},
        {_joined(name): worsenings(second, "head", name) for name in again if name in family},
        {_joined(name): margins[name] for name in family},
        alpha,
        {_joined(name): worsenings([*first, *_having(second, name)], "control", name) for name in family},
    )
    used = [second if name in again else first for name in family]
    return [_line(name, d, blocks, alpha / len(family)) for name, d, blocks in zip(family, decisions, used)]


def open_names(first: Sequence[dict[str, Any]], family: Sequence[Name], margins: Mapping[Name, float]) -> list[Name]:
    """The members of the family that the first stage leaves open."""
    found = open_after_first(
        {_joined(name): worsenings(first, "head", name) for name in family}, {_joined(n): margins[n] for n in family}
    )
    return [name for name in family if _joined(name) in found]


def names_of(blocks: Sequence[dict[str, Any]]) -> list[Name]:
    """Every (cell, metric) that head and base have in all blocks."""
    per_block = [{(c, m) for c, found in block["ratios"]["head"].items() for m in found} for block in blocks]
    return sorted(set.intersection(*per_block)) if per_block else []


def worsenings(blocks: Sequence[dict[str, Any]], arm: str, name: Name) -> np.ndarray:
    """One log-ratio a block of ``arm`` against base, turned so that positive is worse."""
    cell, metric = name
    sign = 1.0 if METRICS[metric][1] == "lower" else -1.0
    return np.array([sign * block["ratios"][arm][cell][metric] for block in blocks])


def failures(blocks: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Cell -> (arm, reason) of the first failure: that of head where it has any."""
    found: dict[str, tuple[str, str]] = {}
    for arm in ("head", "base", "control"):
        for block in blocks:
            for cell, reason in block["failed"][arm].items():
                found.setdefault(cell, (arm, reason))
    return found


def _having(blocks: Sequence[dict[str, Any]], name: Name) -> list[dict[str, Any]]:
    return [b for b in blocks if name[1] in b["ratios"]["control"].get(name[0], {})]


def _joined(name: Name) -> str:
    return f"{name[0]} {name[1]}"


def is_new(cell: str, blocks: Sequence[dict[str, Any]]) -> bool:
    """Whether head has a cell that base could not even build, in no block and in neither arm."""
    own = [block for block in blocks if cell in block["cells"]]
    unbuilt = all(cell in block.get("unbuilt", {}).get(arm, {}) for block in own for arm in ("base", "control"))
    return bool(own) and unbuilt and not any(cell in block["failed"]["head"] for block in own)


def _broken(
    cell: str, failure: tuple[str, str], blocks: Sequence[dict[str, Any]], work: Work, margins: Mapping[str, float]
) -> list[Line]:
    """The lines of a cell that failed: all metrics where head failed, else those that head has."""
    arm, reason = failure
    if arm == "head":
        lines = [Line(cell, metric, "failed", f"head: {reason}", *METRICS[metric]) for metric in work.metrics]
    else:
        values = {
            m: [b["values"]["head"][cell][m] for b in blocks if m in b["values"]["head"].get(cell, {})]
            for m in work.metrics
        }
        new = is_new(cell, blocks)
        verdict: Outcome = "new" if new else "not comparable"
        said = f"base does not have it: {reason}" if new else f"base cannot run it: {reason}"
        lines = [
            Line(cell, metric, verdict, said, *METRICS[metric], head=median_interval(found))
            for metric, found in values.items()
            if found
        ]
    return [dataclasses.replace(line, margin=margins[line.metric]) for line in lines]


def _line(name: Name, d: Decision, blocks: Sequence[dict[str, Any]], level: float) -> Line:
    cell, metric = name
    unit, direction = METRICS[metric]
    sides = {arm: median_interval([b["values"][arm][cell][metric] for b in blocks]) for arm in ("base", "head")}
    spread = float(worsenings(blocks, "head", name).std(ddof=1))
    sign = 1.0 if direction == "higher" else -1.0
    least = minimum_detectable_effect(spread, d.blocks, alpha=level, alternative="greater")
    return Line(
        subject=cell,
        metric=metric,
        verdict=d.verdict,
        reason=d.reason,
        unit=unit,
        direction=direction,
        base=sides["base"],
        head=sides["head"],
        change=_of_value(d.change, direction),
        margin=d.margin,
        p=d.p_adjusted,
        smallest_p=2.0**-d.blocks,
        detectable=None if least is None else relative_change(-sign * (log_margin(d.margin) + least)),
        paired=True,
        n=d.blocks,
    )


def _of_value(cost: Estimate, direction: str) -> Estimate:
    """A change of cost (positive is worse) as the change of the value that is shown."""
    if direction == "lower":
        return cost
    value, low, high = (None if v is None else math.expm1(-math.log1p(v)) for v in (cost.value, cost.low, cost.high))
    assert value is not None
    return cost._replace(value=value, low=high, high=low)


def _notes(blocks: Sequence[dict[str, Any]], work: Work) -> list[str]:
    names = names_of(blocks[:FIRST_BLOCKS])
    noise = {
        n: abs(math.expm1(hodges_lehmann(worsenings(_having(blocks, n), "control", n))))
        for n in names
        if _having(blocks, n)
    }
    notes = []
    if noise:
        cell, metric = max(noise, key=lambda name: noise[name])
        notes.append(
            f"A/A control: base differs from itself by at most {noise[cell, metric]:.1%} ({cell} {metric}, {len(blocks)} blocks)"
        )
    loads = [block["load"] for block in blocks]
    seconds = sum(block["seconds"] for block in blocks)
    notes.append(
        f"{len(blocks)} blocks in {seconds:.0f} s on {work.device}, {work.threads} threads; load average {min(loads):.1f} to {max(loads):.1f}"
    )
    return notes
