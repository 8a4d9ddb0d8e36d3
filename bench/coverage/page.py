"""The page of simulated coverage, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.coverage.row import HIGHEST, LOWEST, Row

INTRODUCTION = """# Do the intervals hold?

Made by `bench coverage`; do not edit. Every 95 % interval that a metric offers is tried on fresh simulated data whose truth is
known, skewed and heavy-tailed ones too: how often did it hold what it says it holds? A metric that cannot give an interval
at some size says so in a note instead (`offered` counts how often it did give one).

- **target**: what the interval is for. *true value* and *distance*: of the distributions, not of the samples. *mean at n*:
  the value that another sample of this size would give on average; the metric depends on n, and equal n must be compared.
- **verdict**: *holds* where the simulated coverage is between {low:.0%} and {high:.0%} within the simulation's own error (two
  standard errors at the lower end); *conservative* above {high:.0%}: wider than it need be, mostly where the truth lies at the end of
  the metric's range or the two sets have one distribution; *TOO NARROW* below {low:.0%}; *hardly offered* where fewer than a tenth of
  the repetitions gave one, which chance has chosen.
- **bias**, **sd**: of the value against the target, in its own unit; **half width**: mean of the interval's.

What no interval covers: the choice of the data set, of the extractor, and training; intervals over training seeds are those of
the leaderboard. Clipped Density and Clipped Coverage take the reference set as given: another draw of it would move all
models' values together.
"""

HEADER = "| distribution | d | n | m | target | coverage | offered | bias | sd | half width | repetitions | verdict |"
RULE = "| :-- | --: | --: | --: | :-- | --: | --: | --: | --: | --: | --: | :-- |"


def page(rows: Sequence[Row]) -> str:
    """Summary by metric, then a table a metric."""
    by_metric = {name: list(group) for name, group in groupby(sorted(rows, key=lambda r: r.metric), lambda r: r.metric)}
    parts = [INTRODUCTION.format(low=LOWEST, high=HIGHEST), summary(by_metric)]
    for name, found in by_metric.items():
        parts.append("\n".join([f"## `{name}`", "", HEADER, RULE, *map(_line, found)]) + "\n")
    return "\n".join(parts)


def summary(by_metric: dict[str, list[Row]]) -> str:
    """One line a metric: the range of coverage over all its rows."""
    lines = [
        "## Summary",
        "",
        "| metric | rows | lowest | mean | highest | verdicts |",
        "| :-- | --: | --: | --: | --: | :-- |",
    ]
    for name, rows in by_metric.items():
        covered = [row.coverage for row in rows if row.coverage is not None]
        verdicts = sorted({row.verdict for row in rows})
        counts = ", ".join(f"{sum(row.verdict == verdict for row in rows)} {verdict}" for verdict in verdicts)
        shown = (min(covered), sum(covered) / len(covered), max(covered)) if covered else ()
        lines.append(
            f"| `{name}` | {len(rows)} | {' | '.join(f'{each:.1%}' for each in shown) or ' | | '} | {counts} |"
        )
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = [
        row.distribution,
        "" if row.d is None else str(row.d),
        str(row.n),
        "" if row.m is None else str(row.m),
        row.target,
        "" if row.coverage is None else f"{row.coverage:.1%}",
        f"{row.offered:.0%}",
        f"{row.bias:.2g}",
        f"{row.sd:.2g}",
        "" if row.half_width is None else f"{row.half_width:.2g}",
        str(row.repetitions),
        row.verdict,
    ]
    return "| " + " | ".join(cells) + " |"
