"""Two sides of records -> Verdicts: for people (compare) and for CI (gate)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from scipy import special

from bench.errors import BenchError, did_you_mean
from bench.gate.cells import Cell, Row, matched, rows_of
from bench.gate.margins import USUAL, Margin, said
from bench.gate.sides import Side
from bench.record import MeasurementFields
from bench.report.columns import HEADLINE_IMPORTANCE, group_and_importance
from bench.report.verdicts import Line, Outcome, Verdicts
from bench.stats import compare as stats
from bench.stats.compare import Comparison
from bench.stats.intervals import Estimate, t_interval
from bench.suite import Gate

SAMPLING_ERRORS = 3.0
"""An untrained model's score may move by so many standard errors of a sample set when its samples changed; in a gate by as many as its
false-alarm rate asks for."""

ROUNDING = 1e-5
"""Relative change that the order of floating-point sums may cause in a score of the very same samples."""


def compare_sides(
    base: Side,
    head: Side,
    metrics: Sequence[str] | None = None,
    margin: str | None = None,
    alpha: float = stats.ALPHA,
    noise: Mapping[str, float] | None = None,
) -> Verdicts:
    """Better, worse, equivalent or inconclusive for every trained row and metric of two sides; Holm over all of them.

    metrics: names of measurements; by default those of the narrow tables that have a better direction. margin: by default 5 %, for
    speed and memory what ``noise`` (environment -> margin, see bench.gate.margins) says where that is more.
    """
    given = None if margin is None else Margin.parse(margin)
    pairs = _pairs(base, head)
    pairs = [(a, b) for a, b in pairs if "trained" in _roles(a, b)] or pairs
    if not any(a and b for a, b in pairs):
        raise BenchError(
            f"'{base.label}' and '{head.label}' share no (data set, model); name one model of each with @MODEL"
        )
    names = _named(metrics, pairs) if metrics is not None else _headline(pairs)
    one_sided = [metric for metric in names if not any(_has(metric, a) and _has(metric, b) for a, b in pairs)]
    if metrics is None and len(one_sided) < len(names):
        names = [metric for metric in names if metric not in one_sided]
    judgements = [
        _judge(a, b, metric, given or _usual_margin(a, metric, noise or {}), None, whole=False)
        for a, b in pairs
        for metric in names
        if _has(metric, a) or _has(metric, b)
    ]
    lines = _lines(judgements, lambda comparisons: stats.decide(comparisons, alpha))
    notes = [
        f"changes are shown for '{head.label}' against '{base.label}'; margin {margin or said(USUAL)}; Holm over "
        f"{sum(line.p is not None for line in lines)} comparisons"
    ]
    if metrics is None and one_sided:
        notes.append(f"only one side has: {', '.join(one_sided)}")
    wider = max((j.line.margin or 0.0 for j in judgements if given is None), default=0.0)
    if wider > USUAL:
        notes.append(f"margin of speed and memory: {said(wider)}")
    if any(j.hardware for j in judgements):
        notes.append(_SESSIONS)
    return Verdicts("compare", _shown(base), _shown(head), alpha, tuple(lines), tuple(notes))


def _usual_margin(row: Row | None, metric: str, noise: Mapping[str, float]) -> Margin:
    """Where nobody gave one: 5 %; of speed and memory what ``noise`` says of the environment, where that is more."""
    cell = row.cells.get(metric) if row else None
    texts = cell.facts.get("environment", ()) if cell is not None and cell.hardware else ()
    here = [share for key, share in noise.items() if any(text.startswith(key) for text in texts)]
    return Margin(max([USUAL, *here]), relative=True)


def gate_sides(
    base: Side,
    head: Side,
    family: Gate,
    noise: Mapping[str, float] | None = None,
    models: Collection[str] | None = None,
) -> Verdicts:
    """Whether ``head`` regressed against ``base`` in the declared family.

    Trained models are compared by paired seeds. Models that do not train (baselines, floor) and trials whose samples are the
    same to the byte are compared number by number: exactly, or within the sampling error where the samples differ. Speed that
    was measured in two sessions cannot fail the gate: what looks slower is inconclusive until `bench ab` measures both
    side by side. So it is no part of the family whose false alarms are bounded, and costs the others no power. noise: as for
    ``compare_sides``, for members of the family without a margin. models: the rows that the suite has now (None: all); records of
    others are left from before, are not judged, and a note names them.
    """
    everything = _pairs(base, head, family.suite)
    gone = [
        row.key[2] for a, b in everything if (row := a or b) and models is not None and row.key[2] not in ("", *models)
    ]
    pairs = [(a, b) for a, b in everything if (row := a or b) and row.key[2] not in gone]
    if not pairs:
        raise BenchError(f"no records of suite '{family.suite}' on either side; run `bench run {family.suite}`")
    known = [m.model_copy(update={"metric": _named([m.metric], pairs)[0]}) for m in family.metrics]
    family = family.model_copy(update={"metrics": known})
    errors, alpha = _rates(pairs, [member.metric for member in family.metrics], family.alpha)
    judgements = []
    for member in family.metrics:
        given = None if member.margin is None else Margin.parse(member.margin)
        for a, b in pairs:
            allowed = given or _usual_margin(a, member.metric, noise or {})
            if _has(member.metric, a) or _has(member.metric, b) or _lost(a, b):
                judgements.append(_judge(a, b, member.metric, allowed, member.direction, errors=errors))
    judgements = _without_untimed(judgements)
    bounded, of_two_sessions = ([j for j in judgements if j.hardware == timed] for timed in (False, True))
    lines = _lines(bounded, lambda comparisons: stats.gate(comparisons, alpha))
    lines += [_withdrawn(line) for line in _lines(of_two_sessions, lambda found: stats.gate(found, family.alpha))]
    notes = [_SESSIONS] if any(j.hardware for j in judgements) else []
    if _trials(base, family.suite) == _trials(head, family.suite):
        notes.insert(0, "the same trials on both sides: nothing was run anew")
    if gone:
        notes.insert(0, f"not judged, no longer in suite {family.suite}: {', '.join(dict.fromkeys(gone))}")
    return Verdicts("gate", _shown(base), _shown(head), family.alpha, tuple(lines), tuple(notes))


def _rates(pairs: Sequence[tuple[Row | None, Row | None]], metrics: Sequence[str], alpha: float) -> tuple[float, float]:
    """(sampling errors that untrained rows are allowed, alpha of the trained ones' tests): half of the false-alarm rate each, where a
    family has both. The former by Bonferroni over all seeds whose samples changed."""
    loose, tested = 0, False
    for a, b in pairs:
        for metric in metrics:
            if not (a and b and _has(metric, a) and _has(metric, b)) or a.cells[metric].hardware:
                continue
            one, two = a.cells[metric], b.cells[metric]
            if "trained" in _roles(a, b):
                tested = tested or not _same_samples(one, two)
            else:
                common = set(one.values) & set(two.values)
                loose += sum(one.samples.get(seed) != two.samples.get(seed) for seed in common)
    if not loose:
        return SAMPLING_ERRORS, alpha
    share = alpha / 2 if tested else alpha
    return float(special.ndtri(1 - share / (2 * loose))), alpha - share if tested else alpha


def _trials(side: Side, suite: str) -> set[tuple[str, int, str]]:
    return {(r.trial, r.seed, r.started) for r in side.records if r.suite == suite}


_SESSIONS = "speed and memory come from two sessions: drift of the machine is part of the change; `bench ab` removes it"


@dataclasses.dataclass(frozen=True)
class _Judgement:
    """A comparison on its way to a line; ``line`` holds all but the verdict where tests have to decide."""

    line: Line
    comparison: Comparison | None
    hardware: bool = False
    role: str = "trained"


def _judge(
    a: Row | None,
    b: Row | None,
    metric: str,
    margin: Margin,
    direction: str | None,
    whole: bool = True,
    errors: float = SAMPLING_ERRORS,
) -> _Judgement:
    """whole: seeds of base that head lacks are missing (a gate); else the others are compared. errors: see ``SAMPLING_ERRORS``."""
    row = a or b
    assert row is not None
    subject = "/".join(part for part in row.key[1:] if part) or row.key[0]
    one, two = (side.cells.get(metric) if side else None for side in (a, b))
    cell = two or one
    shown = direction or "lower"
    line = Line(subject, metric, "inconclusive", "", direction=shown, relative=margin.relative, margin=margin.value)
    if cell is not None:
        if direction not in (None, cell.direction):
            raise BenchError(
                f"the gate says of '{metric}' that {direction} is better, its records say {cell.direction}; correct [gate]"
            )
        line = dataclasses.replace(
            line, unit=cell.unit, direction=cell.direction, base=_estimate(one), head=_estimate(two)
        )
    absent = _absence(a, b, one, two, whole)
    if absent is not None:
        return _Judgement(dataclasses.replace(line, verdict=absent[0], reason=absent[1]), None, role=row.role)
    assert one is not None
    assert two is not None
    why = _difference(one, two)
    if why:
        return _Judgement(dataclasses.replace(line, verdict="not comparable", reason=why), None, one.hardware, row.role)
    if cell is not None and cell.direction == "none":
        raise BenchError(f"'{metric}' has no better direction; choose metrics that have one")
    if not one.hardware and ("trained" not in _roles(a, b) or _same_samples(one, two)):
        if not set(one.values) & set(two.values):
            return _Judgement(
                dataclasses.replace(line, verdict="not comparable", reason="no seed in common"), None, role=row.role
            )
        comparison = _exact(one, two, errors)
    else:
        comparison = stats.compare_seeds(metric, one.values, two.values, one.direction, margin.value, margin.relative)
    return _Judgement(line, comparison, one.hardware, row.role)


def _absence(
    a: Row | None, b: Row | None, one: Cell | None, two: Cell | None, whole: bool
) -> tuple[Outcome, str] | None:
    """(verdict, reason) where a side has no number or (``whole``) not all of its numbers; None where both may be compared."""
    if b is not None and b.failures:
        return "failed", "in head: " + "; ".join(b.failures)
    if a is None:
        return "new", "base has no such row: nothing to compare with"
    if b is None:
        return "missing", "base has this row, head does not"
    lost = sorted(set(a.seeds) - set(b.seeds))
    if lost and whole:
        return "missing", f"head lacks seed {', '.join(map(str, lost))} of base"
    if one is None:
        return (
            ("not comparable", "in base: " + "; ".join(a.failures))
            if a.failures
            else ("new", "base did not measure it")
        )
    if two is None:
        return "missing" if whole else "not comparable", "base measured it, head did not"
    gone = sorted(set(one.values) - set(two.values))
    if gone and whole:
        return "missing", f"head has no finite value for seed {', '.join(map(str, gone))}"
    return None


def _difference(one: Cell, two: Cell) -> str:
    """Why two cells must not be compared; "" where they may."""
    for side, cell in (("base", one), ("head", two)):
        for name, values in cell.facts.items():
            if len(values) > 1:
                return (
                    f"{side} mixes trials of different {name} ({' and '.join(values)}): run them again under one {name}"
                )
    if (one.unit, one.direction) != (two.unit, two.direction):
        return f"unit or direction differs ({one.unit}, {one.direction} against {two.unit}, {two.direction})"
    a, b = ({name: values[0] for name, values in cell.facts.items() if values} for cell in (one, two))
    names = [name for name in dict.fromkeys([*a, *b]) if name != "protocol"]
    return stats.differing(a, b, names) or stats.differing(a, b, ["protocol"])


def _exact(one: Cell, two: Cell, allowed: float) -> Comparison:
    """Seed by seed, the one that moved most against what it may move by. allowed: standard errors, where the samples differ."""
    found = []
    for seed in sorted(set(one.values) & set(two.values)):
        before, after = one.values[seed], two.values[seed]
        tolerance = ROUNDING * abs(before)
        same = seed in one.samples and one.samples[seed] == two.samples.get(seed)
        if not same:
            errors = [cell.errors[seed] for cell in (one, two) if seed in cell.errors]
            tolerance += allowed * math.hypot(*errors) if errors else 0.0
        comparison = stats.compare_exact(one.metric, before, after, one.direction, tolerance)
        kind = "same samples" if same else f"{allowed:.3g} sampling errors"
        found.append(
            (
                abs(after - before) - tolerance,
                dataclasses.replace(comparison, reason=f"seed {seed} {comparison.reason} ({kind})"),
            )
        )
    # A score that moved for the better without a reason is no pass either: it is named, as what it is.
    return max(found, key=lambda pair: (pair[1].verdict == "worse", pair[0]))[1]


def _lines(judgements: Sequence[_Judgement], decide: Callable[[list[Comparison]], list[Comparison]]) -> list[Line]:
    """The judgements as lines; the verdicts of those that need tests come from ``decide`` over the whole family."""
    decided = iter(decide([j.comparison for j in judgements if j.comparison is not None]))
    return [j.line if j.comparison is None else _judged(j.line, next(decided)) for j in judgements]


def _judged(line: Line, c: Comparison) -> Line:
    return dataclasses.replace(
        line,
        verdict=c.verdict,
        reason=c.reason,
        change=c.change,
        relative=c.relative,
        margin=c.margin,
        p=None if c.change is None or c.change.method == "exact" else c.p_adjusted,
        smallest_p=None if c.change is None or c.change.method == "exact" else c.smallest_p,
        detectable=c.detectable,
        paired=c.paired,
        n=0 if c.change is None else c.change.n,
    )


def _withdrawn(line: Line) -> Line:
    """What cannot fail finds nothing either: no alarm, no detectable change."""
    line = dataclasses.replace(line, detectable=None)
    if line.verdict == "worse":
        line = dataclasses.replace(
            line,
            verdict="inconclusive",
            reason=f"{line.reason}, but measured in two sessions; confirm it with `bench ab`",
        )
    elif line.verdict == "inconclusive":
        line = dataclasses.replace(
            line, reason="not shown to be as fast, from two sessions; `bench ab` measures both side by side"
        )
    return line


def _without_untimed(judgements: Sequence[_Judgement]) -> list[_Judgement]:
    """Baselines and the floor have no speed worth a gate: their hardware cells are left out."""
    return [j for j in judgements if j.role == "trained" or not j.hardware]


def _pairs(base: Side, head: Side, suite: str | None = None) -> list[tuple[Row | None, Row | None]]:
    a, b = rows_of(base), rows_of(head)
    if suite is not None:
        a, b = ({key: row for key, row in side.items() if key[0] == suite} for side in (a, b))
    return matched(a, b)


def _roles(*rows: Row | None) -> set[str]:
    return {row.role for row in rows if row is not None}


def _has(metric: str, row: Row | None) -> bool:
    return row is not None and metric in row.cells


def _lost(a: Row | None, b: Row | None) -> bool:
    """Whether a row has failed, or a trained one gone, so wholly that no metric is left of it."""
    sides = [side for side in (a, b) if side is not None]
    return any(not side.cells and (side.failures or side.role == "trained") for side in sides)


def _named(metrics: Sequence[str], pairs: Sequence[tuple[Row | None, Row | None]]) -> list[str]:
    known = {name: cell for pair in pairs for row in pair if row for name, cell in row.cells.items()}
    return directed(metrics, known)


def directed(metrics: Sequence[str], known: Mapping[str, Cell | MeasurementFields]) -> list[str]:
    """The names as they were measured, each once; BenchError for one that was not, or that has no better direction."""
    names = [known_as(name, known) for name in metrics]
    for name in names:
        if known[name].direction == "none":
            raise BenchError(f"'{name}' has no better direction; choose metrics that have one")
    return list(dict.fromkeys(names))


def known_as(name: str, known: Mapping[str, object]) -> str:
    """``sampling-throughput`` -> ``sampling_throughput``; BenchError where neither was measured."""
    found = next((spelling for spelling in (name, name.replace("-", "_")) if spelling in known), None)
    if found is None:
        raise BenchError(f"no record here has measured '{name}'; {did_you_mean(name, known)}")
    return found


def _headline(pairs: Sequence[tuple[Row | None, Row | None]]) -> list[str]:
    """The metrics of the narrow tables: every further one would cost these power (Holm)."""
    cells = {name: cell for pair in pairs for row in pair if row for name, cell in row.cells.items()}
    importance = {
        name: group_and_importance(name, cell.unit)[1] for name, cell in cells.items() if cell.direction != "none"
    }
    return sorted((n for n, i in importance.items() if i <= HEADLINE_IMPORTANCE), key=lambda n: (importance[n], n))


def _same_samples(one: Cell, two: Cell) -> bool:
    return bool(one.samples) and set(one.samples) == set(one.values) and one.samples == two.samples


def _estimate(cell: Cell | None) -> Estimate | None:
    return None if cell is None or not cell.values else t_interval(list(cell.values.values()))


def _shown(side: Side) -> str:
    return (
        f"{side.label} ({side.commit[:10]})" if side.commit and not side.commit.startswith(side.label) else side.label
    )
