"""Curves of a suite's records: quality along training, time to a target, rank by budget, quality by steps, speed by batch size.

Imports no torch: everything is made from records alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from bench.prices import Price
from bench.record import CurvePoint, MeasurementFields, Record
from bench.stats.intervals import Estimate, t_interval, welch_difference
from bench.stats.survival import censored_median


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of one run's curve. seconds, images, flops: of training so far (flops None where not counted)."""

    share: float
    seconds: float
    images: float
    flops: float | None
    value: float


@dataclasses.dataclass(frozen=True)
class Reached:
    """When the runs of a model reached the target.

    brackets: for each run that did, (last checkpoint that had not reached it, or 0; first that had), in seconds. runs: of all runs.
    budget: seconds after which the others were given up. images: seen at the first checkpoint that had reached it. price: of the
    device, where the config had one. budget_images: seen by the runs that were given up.
    """

    model: str
    brackets: tuple[tuple[float, float], ...]
    images: tuple[float, ...]
    runs: int
    budget: float
    price: Price | None = None
    budget_images: float = 0.0

    @property
    def median(self) -> float | None:
        """Median seconds over runs, those that never reached it counting as longer than any; None where it is among those."""
        middle = self._estimate().value
        return middle if math.isfinite(middle) else None

    @property
    def median_images(self) -> float | None:
        """Median images by the same rule as the median seconds."""
        never = self.runs - len(self.images)
        middle = censored_median([*self.images, *[0.0] * never], [*self.images, *[math.inf] * never]).value
        return middle if math.isfinite(middle) else None

    @property
    def interval(self) -> tuple[float, float | None] | None:
        """95 % interval of the median, its upper end None where that is beyond the budget; None below six runs."""
        found = self._estimate()
        if found.low is None or found.high is None:
            return None
        return found.low, found.high if math.isfinite(found.high) else None

    def _estimate(self) -> Estimate:
        never = self.runs - len(self.brackets)
        low = [low for low, _ in self.brackets] + [self.budget] * never
        return censored_median(low, [high for _, high in self.brackets] + [math.inf] * never)

    @property
    def ends(self) -> tuple[float, float | None]:
        """Within which seconds all runs crossed the target; the upper end is None where one never did."""
        low = min((low for low, _ in self.brackets), default=self.budget)
        return low, max(high for _, high in self.brackets) if len(self.brackets) == self.runs else None


def quality_metric(records: Sequence[Record]) -> str | None:
    """The metric of the curves: what the suite ranks by where it was scored along them, else the first of a kernel distance."""
    names = _scored_names(records)
    wanted = next((record.config.get("rank_by") for record in reversed(records)), None)
    if wanted in names:
        return wanted
    return next((name for name in names if name.startswith("kid")), names[0] if names else None)


def curve_metrics(records: Sequence[Record]) -> list[str]:
    """Every distance that was scored along a curve, that of ``quality_metric`` first."""
    first = quality_metric(records)
    return sorted(_scored_names(records), key=lambda name: name != first)


def _scored_names(records: Sequence[Record]) -> list[str]:
    names = dict.fromkeys(
        m.name
        for record in records
        for points in (record.curves.get("training"), record.curves.get("nfe"))
        for point in points or ()
        for m in point.measurements
        if m.direction == "lower" and m.source != "cost"
    )
    return list(names)


def training_curve(record: Record, metric: str) -> list[Point]:
    """The run's checkpoints and its end, in order; a checkpoint that could not be scored is left out."""
    flops = _value(record.measurements, "training_flops_per_image")
    found = []
    for point in record.curves.get("training", []):
        scored = _value(point.measurements, metric)
        if scored is None:
            continue
        images = point.at["images"]
        found.append(Point(point.at["share"], point.at["seconds"], images, flops and flops * images, scored))
    last, seen = _value(record.measurements, metric), _value(record.measurements, "training_images")
    training = _value(record.measurements, "training_seconds")
    prior = _value(record.measurements, "prior_seconds") or 0.0
    if last is not None and seen is not None and training is not None:
        found.append(Point(1.0, training + prior, seen, flops and flops * seen, last))
    return found


def crossing(curve: Sequence[Point], target: float) -> tuple[float, Point] | None:
    """(seconds of the checkpoint before, first checkpoint at or below ``target``); None where the run never got there."""
    before = 0.0
    for point in curve:
        if point.value <= target:
            return before, point
        before = point.seconds
    return None


def target_of(records: Sequence[Record], metric: str) -> tuple[float, str] | None:
    """(target, where it comes from): the suite's, else the quality that half of the models end with. None where no run has come
    to its end."""
    for record in reversed(records):
        target = record.config.get("target")
        if target and target["metric"] == metric:
            return float(target["value"]), "set by the suite"
    finals: dict[str, list[float]] = {}
    for record in _trained(records):
        value = _value(record.measurements, metric)
        if value is not None:
            finals.setdefault(record.model, []).append(value)
    if not finals:
        return None
    return statistics.median(map(statistics.fmean, finals.values())), "what half of the models end with"


def times_to(records: Sequence[Record], metric: str, target: float) -> list[Reached]:
    """One entry a model, fastest first; runs that failed count as never having reached the target."""
    found = []
    for model, runs in _by_model(records).items():
        crossings = [crossing(training_curve(run, metric), target) for run in runs]
        reached = [crossed for crossed in crossings if crossed is not None]
        ends = [curve[-1] for run in runs if (curve := training_curve(run, metric))]
        found.append(
            Reached(
                model,
                tuple((before, point.seconds) for before, point in reached),
                tuple(point.images for _, point in reached),
                len(runs),
                max((end.seconds for end in ends), default=0.0),
                next((price for run in reversed(runs) if (price := price_in(run)) is not None), None),
                max((end.images for end in ends), default=0.0),
            )
        )
    return sorted(found, key=lambda entry: (entry.median is None, entry.median or 0.0, -len(entry.brackets)))


def ranks_by_share(records: Sequence[Record], metric: str) -> dict[float, list[tuple[str, float]]]:
    """Share of the budget -> (model, mean quality over runs), best first; shares at which every model was scored."""
    return {
        share: sorted(((m, statistics.fmean(v)) for m, v in by_model.items()), key=lambda pair: pair[1])
        for share, by_model in values_by_share(records, metric).items()
    }


def values_by_share(records: Sequence[Record], metric: str) -> dict[float, dict[str, list[float]]]:
    """Share of the budget -> model -> quality of each run, at the shares at which every model was scored."""
    models = _by_model(records)
    found: dict[float, dict[str, list[float]]] = {}
    for model, runs in models.items():
        for run in runs:
            for point in training_curve(run, metric):
                found.setdefault(point.share, {}).setdefault(model, []).append(point.value)
    return {share: by_model for share, by_model in sorted(found.items()) if len(by_model) == len(models)}


def are_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Does the 95 % interval of the difference of two models' means (Welch) leave out zero?"""
    low, high = (difference := welch_difference(first, second)).low, difference.high
    return low is not None and high is not None and not low <= 0 <= high


def rank_changes(ranks: dict[float, list[tuple[str, float]]]) -> list[tuple[float, str, str]]:
    """(share, overtaker, overtaken): pairs whose order differs from that at the share before."""
    found = []
    shares = list(ranks)
    for before, share in itertools.pairwise(shares):
        was = [model for model, _ in ranks[before]]
        now = [model for model, _ in ranks[share]]
        for i, first in enumerate(now):
            found += [(share, first, second) for second in now[i + 1 :] if was.index(second) < was.index(first)]
    return found


def curve_points(records: Sequence[Record], name: str) -> dict[str, list[list[CurvePoint]]]:
    """Model -> its runs' curves called ``name`` (``nfe`` or ``batch``), models without one left out."""
    found: dict[str, list[list[CurvePoint]]] = {}
    for record in _trained(records):
        if record.curves.get(name):
            found.setdefault(record.model, []).append(record.curves[name])
    return found


def over_runs(measured: Sequence[MeasurementFields]) -> Estimate | None:
    """The mean over runs with its t interval; of a single run its own number with its own interval. None without any."""
    known = [m for m in measured if m.value is not None]
    if not known:
        return None
    if len(known) == 1:
        [only] = known
        assert only.value is not None
        return Estimate(only.value, only.low, only.high, 1, only.interval or "none")
    return t_interval([m.value for m in known if m.value is not None])


def measurement_at(point: CurvePoint, metric: str) -> MeasurementFields | None:
    return next((m for m in point.measurements if m.name == metric), None)


def final_measurement(record: Record, metric: str) -> MeasurementFields | None:
    return next((m for m in record.measurements if m.name == metric), None)


def value_at(point: CurvePoint, metric: str) -> float | None:
    return _value(point.measurements, metric)


def _trained(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.role == "trained"]


def _by_model(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Models of which some run has checkpoints -> all of their runs."""
    found: dict[str, list[Record]] = {}
    for record in _trained(records):
        found.setdefault(record.model, []).append(record)
    return {model: runs for model, runs in found.items() if any(run.curves.get("training") for run in runs)}


def price_in(record: Record) -> Price | None:
    """The price of an hour of the device that the run was on, where the config had one."""
    price = record.config.get("price")
    return None if price is None else Price.model_validate(price, strict=False)


def _value(measurements: Sequence, name: str) -> float | None:
    return next((m.value for m in measurements if m.name == name), None)
