"""From readings to verdicts: does a measurement follow a corruption, from which strength on, and as documented?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from bench.sanity.expected import LOWER_IS_WORSE, claim
from bench.sanity.run import Reading

Found = Literal["worse", "better", "nothing"]

LEAST_CORRELATION = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measurement under one corruption.

    correlation: Spearman's, of strength and worseness over all repetitions, clean data included; +1 follows perfectly, -1 is
    misled. detected: the smallest strength from which on *every* corrupted repetition is worse than *every* clean one (or
    better, for ``better``), None where there is none. found: ``worse`` or ``better`` where the strongest corruption is
    detected and the correlation is at least 0.5, else ``nothing``. documented: what it must be, or None (also where
    the clean data give no value at this n). values: (strength, mean).
    """

    metric: str
    stem: str
    stage: str
    corruption: str
    correlation: float
    detected: float | None
    found: Found
    documented: str | None
    values: tuple[tuple[float, float], ...]

    @property
    def fails(self) -> bool:
        return self.documented is not None and self.found != self.documented


def judge(readings: Sequence[Reading], knows_classes: bool = True) -> list[Finding]:
    """A finding for each measurement and corruption of each stage. knows_classes: as of ``claim``."""
    clean: dict[tuple[str, str, str], list[Reading]] = {}
    corrupted: dict[tuple[str, str, str, str], list[Reading]] = {}
    for reading in readings:
        key = (reading.stage, reading.metric, reading.stem)
        if reading.corruption == "clean":
            clean.setdefault(key, []).append(reading)
        else:
            corrupted.setdefault((*key, reading.corruption), []).append(reading)
    return [_finding(clean[key[:3]], group, knows_classes) for key, group in corrupted.items() if key[:3] in clean]


def chance(repeats: int) -> float:
    """Probability that a corruption that changes nothing is called detected at one strength, in one direction."""
    return 1 / math.comb(2 * repeats, repeats)


def _finding(clean: Sequence[Reading], corrupted: Sequence[Reading], knows_classes: bool) -> Finding:
    first = corrupted[0]
    sign = -1.0 if first.direction == "higher" or first.stem in LOWER_IS_WORSE else 1.0
    usable = [r for r in (*clean, *corrupted) if not np.isnan(r.value)]
    strength = np.array([r.strength for r in usable])
    worse = sign * np.array([r.value for r in usable])
    with np.errstate(invalid="ignore"):
        varies = len(np.unique(worse)) > 1 and len(np.unique(strength)) > 1
        correlation = float(stats.spearmanr(strength, worse).statistic) if varies else 0.0
    detected = {way: _smallest(strength, s * worse) for way, s in (("worse", 1.0), ("better", -1.0))}
    found: Found = "nothing"
    if detected["worse"] is not None and correlation >= LEAST_CORRELATION:
        found = "worse"
    elif detected["better"] is not None and correlation <= -LEAST_CORRELATION:
        found = "better"
    levels = sorted(set(strength.tolist()))
    return Finding(
        metric=first.metric,
        stem=first.stem,
        stage=first.stage,
        corruption=first.corruption,
        correlation=correlation,
        detected=None if found == "nothing" else detected[found],
        found=found,
        documented=claim(first.stem, first.corruption, knows_classes) if (strength == 0).any() else None,
        values=tuple((level, float(sign * worse[strength == level].mean())) for level in levels),
    )


def _smallest(strength: np.ndarray, worse: np.ndarray) -> float | None:
    """The smallest strength from which on all values lie above all clean ones."""
    if not (strength == 0).any():
        return None
    worst_clean = worse[strength == 0].max()
    found = None
    for level in sorted(set(strength[strength > 0].tolist()), reverse=True):
        if worse[strength == level].min() <= worst_clean:
            break
        found = level
    return found
