"""The change that does not matter, where the user gives none: 5 %, or twice the machine's noise where that is more."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.stats.gate import noise_margin

USUAL = 0.05
"""The share below which no change of speed, memory or quality matters."""


@dataclasses.dataclass(frozen=True)
class Margin:
    """The change that does not matter: a share of base (``relative``) or an amount in the metric's units."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Margin:
        """``5%`` or ``0.02``; BenchError for anything else."""
        number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise BenchError(f"a margin reads '5%' (a share of base) or '0.02' (in the metric's units), got '{text}'")
        return cls(value / 100 if percent else value, percent)


def stored_margins(results: Path) -> Mapping[str, float]:
    """Environment -> the margin that ``results/noise.json`` of `bench noise` asks for there. Imports no torch."""
    path = results / "noise.json"
    if not path.is_file():
        return {}
    found: dict[str, float] = {}
    try:
        for entry in json.loads(path.read_text(encoding="utf-8")):
            margin = noise_margin(entry["differences"], USUAL)
            found[entry["environment"]] = max(margin, found.get(entry["environment"], 0.0))
    except (ValueError, TypeError, KeyError) as error:
        raise BenchError(f"cannot read '{path}': {error}; delete it and run `bench noise` again") from None
    return found


def said(margin: float) -> str:
    """Where a margin that nobody gave comes from."""
    if margin <= USUAL:
        return f"{USUAL:.0%}, as nothing else was said"
    return f"{margin:.1%}, twice what this machine differs from itself (`bench noise`)"
