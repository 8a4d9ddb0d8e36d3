"""`bench.compare`: what `bench compare` shows, as a pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.gate.judge import compare_sides
from bench.gate.margins import stored_margins
from bench.gate.sides import load_side

if TYPE_CHECKING:
    import pandas as pd


def compare(
    a: str | Path,
    b: str | Path,
    metrics: Sequence[str] | None = None,
    margin: str | None = None,
    results: str | Path = "results",
) -> pd.DataFrame:
    """Verdicts of ``b`` against ``a``, one row a (data set, model, metric).

    a, b: results folder, records file or git revision with committed records, with ``@MODEL`` behind it for one model.
    metrics: measurements to compare; by default the most important ones, as in narrow tables. margin: the change that does not
    matter, ``5%`` of a or ``0.02`` in the metric's units; by default 5 %, for speed twice the noise that
    ``bench noise`` stored in ``results``, where that is more. results: where a bare revision keeps its records.

    Columns: subject, metric, verdict, reason, unit, direction, relative, margin, p (Holm over all rows), smallest_p (of an exact
    test of so few seeds), detectable (the change for the worse found with 80 % probability), paired, n, and base, head and
    change with their 95 % intervals (``..._low``, ``..._high``). Raises BenchError where a side is unreadable or nothing is shared.
    """
    base, head = (load_side(str(side), Path(results)) for side in (a, b))
    return compare_sides(base, head, metrics, margin, noise=stored_margins(Path(results))).frame()
