"""Verdicts of a comparison, a gate or a timing of two versions: the one object that every output is made from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BenchError
from bench.stats.intervals import Estimate

if TYPE_CHECKING:
    import pandas as pd

Outcome = Literal["worse", "failed", "missing", "inconclusive", "not comparable", "better", "equivalent", "new"]

OUTCOMES: tuple[Outcome, ...] = (
    "worse", "failed", "missing", "inconclusive", "not comparable", "better", "equivalent", "new",
)  # fmt: skip
"""In the order of their weight: what needs a person's eye comes first."""

EXIT_CODES: Mapping[Outcome, int] = {"worse": 1, "failed": 3, "missing": 3, "inconclusive": 4, "not comparable": 4}
"""Others are 0. The heaviest outcome decides."""

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Line:
    """One judged cell: a metric of a subject (``digits16/vae``).

    base, head: what each side has, None where it has nothing. change: relative change of the value (0.1 = 10 % larger) or, with
    ``relative`` False, the difference, with its 95 % interval. margin: the change that does not matter, in the same units.
    p: of the alarm, corrected for the whole family. smallest_p: the smallest p-value that an exact test of so few values can
    give. detectable: the change for the worse that this verdict finds with 80 % probability, with the sign of ``change``; infinite
    where it finds none. n: pairs of seeds, seeds or blocks.
    """

    subject: str
    metric: str
    verdict: Outcome
    reason: str
    unit: str = "1"
    direction: str = "lower"
    base: Estimate | None = None
    head: Estimate | None = None
    change: Estimate | None = None
    relative: bool = True
    margin: float | None = None
    p: float | None = None
    smallest_p: float | None = None
    detectable: float | None = None
    paired: bool = False
    n: int = 0

    @property
    def name(self) -> str:
        return f"{self.subject} {self.metric}"


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """kind: ``compare``, ``gate`` or ``ab``. base, head: what was compared, as the user named it (with commits).

    alpha: chance of any false alarm in the family. notes: what the reader must know besides the lines.
    """

    kind: Literal["compare", "gate", "ab"]
    base: str
    head: str
    alpha: float
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 fine, 1 something is worse, 3 something failed or is missing, 4 something is open or nothing was compared."""
        codes = {EXIT_CODES.get(line.verdict, 0) for line in self.lines}
        compared = any(line.verdict != "new" for line in self.lines)
        return next((code for code in (1, 3, 4) if code in codes), 0 if compared else 4)

    def without(self, measured: Verdicts) -> Verdicts:
        """The same without the lines that ``measured`` decides: of the same subject and metric. What failed or is missing here stays."""
        decided = {(line.subject, line.metric) for line in measured.lines}
        return dataclasses.replace(
            self,
            lines=tuple(
                line
                for line in self.lines
                if (line.subject, line.metric) not in decided or line.verdict in ("failed", "missing")
            ),
        )

    def counts(self) -> dict[Outcome, int]:
        """How many lines have each verdict, the weightiest first; verdicts that none has are left out."""
        return {o: n for o in OUTCOMES if (n := sum(line.verdict == o for line in self.lines))}

    def by_weight(self) -> list[Line]:
        """The lines, those that need a person's eye first."""
        return sorted(self.lines, key=lambda line: OUTCOMES.index(line.verdict))

    @property
    def headline(self) -> str:
        """``regression: 1 worse, 19 equivalent``; of a comparison, which is no test to pass, the counts alone."""
        word = {0: "passed", 1: "regression", 3: "failed or missing", 4: "inconclusive"}[self.exit_code]
        counts = ", ".join(f"{n} {outcome}" for outcome, n in self.counts().items()) or "nothing was compared"
        return counts if self.kind == "compare" else f"{word}: {counts}"

    def to_json(self) -> str:
        """Everything, as strict JSON (a number that is not finite becomes null)."""
        fields = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        fields["lines"] = [_line_fields(line) for line in self.lines]
        fields |= {"exit_code": self.exit_code, "headline": self.headline}
        return json.dumps(_strict(fields), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> Verdicts:
        """The inverse of to_json(); BenchError naming ``where`` if the text holds no verdicts."""
        try:
            fields = json.loads(text)
            if fields["schema_version"] != SCHEMA_VERSION:
                raise BenchError(f"{where}: schema version {fields['schema_version']!r} is not {SCHEMA_VERSION}")
            lines = tuple(_line(line) for line in fields["lines"])
            return cls(fields["kind"], fields["base"], fields["head"], fields["alpha"], lines, tuple(fields["notes"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BenchError(f"{where}: not a file that `bench gate --json` or `bench ab --json` wrote") from None

    def frame(self) -> pd.DataFrame:
        """One row a line. Estimates become columns ``base``, ``base_low``, ``base_high`` and so on."""
        import pandas as pd

        rows = []
        for line in self.lines:
            fields = {f.name: getattr(line, f.name) for f in dataclasses.fields(line) if f.name not in _ESTIMATES}
            for name in _ESTIMATES:
                value: Estimate | None = getattr(line, name)
                ends = (math.nan,) * 3 if value is None else (value.value, value.low, value.high)
                fields |= dict(zip((name, f"{name}_low", f"{name}_high"), ends))
            rows.append(fields)
        columns = list(_COLUMNS) if not rows else None
        frame = pd.DataFrame(rows, columns=columns)
        numbers = [c for c in map(str, frame) if c.partition("_")[0] in _ESTIMATES] + [
            "margin",
            "p",
            "smallest_p",
            "detectable",
        ]
        return frame.astype(dict.fromkeys(numbers, float))


_ESTIMATES = ("base", "head", "change")
_COLUMNS = [f.name for f in dataclasses.fields(Line) if f.name not in _ESTIMATES] + [
    f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")
]


def merged(parts: Sequence[Verdicts]) -> Verdicts:
    """Several verdicts as one, for one report and one exit code; each keeps its own error rate, which a note says."""
    first = parts[0]
    notes = [note for part in parts for note in part.notes]
    if len(parts) > 1:
        notes += [
            f"{part.kind} of {part.base} and {part.head}: chance of a false alarm {part.alpha:g}" for part in parts
        ]
    return dataclasses.replace(
        first,
        alpha=min(1.0, sum(part.alpha for part in parts)),
        lines=tuple(line for part in parts for line in part.lines),
        notes=tuple(dict.fromkeys(notes)),
    )


def _line_fields(line: Line) -> dict[str, Any]:
    fields = dataclasses.asdict(line)
    for name in _ESTIMATES:
        value: Estimate | None = getattr(line, name)
        fields[name] = None if value is None else value._asdict()
    return fields


def _line(fields: dict[str, Any]) -> Line:
    read: dict[str, Any] = {name: _estimate(value) if name in _ESTIMATES else value for name, value in fields.items()}
    if read["verdict"] not in OUTCOMES:
        raise ValueError(read["verdict"])
    return Line(**read)


def _estimate(fields: dict[str, Any] | None) -> Estimate | None:
    return None if fields is None else Estimate(**fields)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
