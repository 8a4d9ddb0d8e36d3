"""People's (or a judge's) preferences between models -> strengths of the Bradley-Terry model."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError
from bench.stats.intervals import Estimate
from bench.stats.ranking import bradley_terry


class Vote(NamedTuple):
    """One comparison. tie: neither was preferred."""

    winner: str
    loser: str
    tie: bool


def read_votes(path: Path) -> list[Vote]:
    """A CSV file with the columns ``winner`` and ``loser``, and ``tie`` (1 or true) where there are ties."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read preferences from '{path}': {error}") from None
    lines = csv.DictReader(io.StringIO(text))
    if not {"winner", "loser"} <= set(lines.fieldnames or ()):
        raise BenchError(f"'{path}' lacks a column; its first line must read winner,loser or winner,loser,tie")
    votes = []
    for number, line in enumerate(lines, start=2):
        winner, loser = (line["winner"] or "").strip(), (line["loser"] or "").strip()
        if not winner or not loser or winner == loser:
            raise BenchError(
                f"'{path}', line {number}: a vote names two different models, got '{winner}' and '{loser}'"
            )
        votes.append(Vote(winner, loser, (line.get("tie") or "").strip().lower() in ("1", "true", "yes")))
    if not votes:
        raise BenchError(f"'{path}' holds no vote; write one line a comparison below winner,loser")
    return votes


def strengths(votes: Sequence[Vote]) -> Mapping[str, Estimate]:
    """Log-odds of being preferred to the model that comes first in the alphabet, strongest first. See bradley_terry()."""
    names = sorted({name for vote in votes for name in (vote.winner, vote.loser)})
    wins = [[0.0] * len(names) for _ in names]
    for vote in votes:
        i, j = names.index(vote.winner), names.index(vote.loser)
        wins[i][j] += 0.5 if vote.tie else 1.0
        wins[j][i] += 0.5 if vote.tie else 0.0
    return dict(sorted(zip(names, bradley_terry(wins)), key=lambda item: -item[1].value))


def strength_cells(found: Mapping[str, Estimate]) -> list[list[str]]:
    """Rows of text, the header first."""
    anchor = min(found)
    lines = [["model", f"log-odds against {anchor}", "comparisons"]]
    for name, e in found.items():
        shown = "0" if name == anchor else f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
        lines.append([name, shown, str(e.n)])
    return lines
