"""What `bench variance` prints: standard deviations of a score over training seeds, over sampling seeds and of a finite sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.report.numbers import MISSING, format_estimate, format_number
from bench.stats.intervals import Estimate
from bench.stats.variance import Components, variance_components

if TYPE_CHECKING:
    from bench.execute.resample import Resampled

SENTENCES = (
    "Standard deviations of one score with 95 % intervals. Training seed: between models trained alike. Sampling seed: between sample "
    "sets of one trained model.",
    "Finite sample: what the score's own interval says of a sample set of this size; more than the sampling seed's where the reference, "
    "the same for all sets, adds to it.",
    "Training's share: of the variance of a run's score. Where it is high only more seeds narrow the leaderboard's intervals; where it "
    "is low more samples do, too.",
)


def cells_of(found: Sequence[Resampled], metric: str) -> tuple[list[list[str]], list[str]]:
    """(rows of text with the header first, sentences on what has none) of one measurement: one row a data set and model."""
    lines = [["", "seeds x sets", "score", "training seed", "sampling seed", "finite sample", "training's share"]]
    left_out = []
    for key in dict.fromkeys(map(_row, found)):
        mine = [run for run in found if _row(run) == key]
        split, name = components(mine, metric), "/".join(key[1:])
        if split is None:
            left_out.append(f"{name}: needs two training seeds that measured {metric} in every sample set.")
            continue
        lines.append([name, f"{split.score.n} x {len(mine[0].sets)}", *_numbers(split)])
    return lines, left_out


def _row(run: Resampled) -> tuple[str, str, str]:
    return run.record.suite, run.record.dataset, run.record.model


def components(runs: Sequence[Resampled], metric: str) -> Components | None:
    """The split of one measurement of one model over its training seeds; None with fewer than two of them."""
    whole = [run for run in runs if all(metric in scores for scores in run.sets)]
    if len(whole) < 2:
        return None
    table = [[scores[metric] for scores in run.sets] for run in whole]
    values = np.array([[value for value, _ in row] for row in table])
    errors = [[error for _, error in row] for row in table]
    known = all(error is not None for row in errors for error in row)
    return variance_components(values, np.array(errors, dtype=float) if known else None)


def _numbers(split: Components) -> list[str]:
    total = split.training.value**2 + split.sampling.value**2
    return [
        format_estimate(split.score), _deviation(split.training), _deviation(split.sampling),
        MISSING if split.finite is None else format_number(split.finite, 2),
        f"{split.training.value**2 / total:.0%}" if total else MISSING,
    ]  # fmt: skip


def _deviation(e: Estimate) -> str:
    assert e.low is not None
    assert e.high is not None
    return f"{format_number(e.value, 2)} [{format_number(e.low, 2)}, {format_number(e.high, 2)}]"
