"""Measurement and Record: the versioned result schema (v1). One record is one JSON line.

Imports no torch: reports, comparisons and gates are made from records alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Direction = Literal["higher", "lower", "none"]
Status = Literal["complete", "failed", "diverged", "out-of-memory", "timeout", "killed"]


class Measurement(float):
    """A number that says what it is: name, unit, direction, 95 % interval and sample size.

    It *is* a float, so arithmetic, comparison and formatting work on ``value``. ``low`` and ``high`` bound the 95 %
    interval; both are None where none can honestly be given, and ``note`` then says why.

    Parameters
    ----------
    value: the point estimate.
    name: what was computed, as a protocol name (``fd_effnetlite0_mid``, not ``fid``).
    low, high: the ends of the 95 % interval, ``low <= high``. They need not enclose ``value`` where ``value`` is biased. Ends that
        are not finite are left out.
    n: number of samples (images, seeds, repetitions) the value rests on.
    unit: ``images/s``, ``MiB``, ``bits/dim``, ``1`` for a pure number ...
    direction: which way is better: ``higher``, ``lower`` or ``none``.
    interval: how the interval was made (``t``, ``bootstrap``, ``influence+jackknife``, ``wilson`` ...).
    note: a warning for the reader, e.g. ``noisy``.
    """

    __slots__ = ("direction", "high", "interval", "low", "n", "name", "note", "unit")

    name: str
    low: float | None
    high: float | None
    n: int | None
    unit: str
    direction: Direction
    interval: str | None
    note: str | None

    def __new__(
        cls,
        value: float,
        *,
        name: str = "",
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        unit: str = "1",
        direction: Direction = "none",
        interval: str | None = None,
        note: str | None = None,
    ) -> Measurement:
        self = super().__new__(cls, value)
        if (low is None) != (high is None):
            raise ValueError(f"measurement '{name}' needs both ends of its interval or neither")
        if low is not None and high is not None and not (math.isfinite(low) and math.isfinite(high)):
            low = high = interval = None
            what = "no interval: its ends are no finite numbers" if math.isfinite(value) else "not a finite number"
            note = note or what
        if low is not None and high is not None and low > high:
            raise ValueError(f"measurement '{name}' has its interval upside down: [{low}, {high}]")
        self.name = name
        self.low = None if low is None else float(low)
        self.high = None if high is None else float(high)
        self.n = None if n is None else int(n)
        self.unit = unit
        self.direction = direction
        self.interval = interval
        self.note = note
        return self

    @property
    def value(self) -> float:
        return float(self)

    def replace(self, **changes: Any) -> Measurement:
        """A copy with some attributes changed (``value`` included)."""
        fields = {**self.to_dict(), **changes}
        return Measurement(fields.pop("value"), **fields)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": float(self),
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "unit": self.unit,
            "direction": self.direction,
            "interval": self.interval,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measurement:
        fields = dict(fields)
        value = fields.pop("value")
        return cls(math.nan if value is None else value, **fields)

    def __getnewargs_ex__(self) -> tuple[tuple[float], dict[str, Any]]:
        fields = self.to_dict()
        return (fields.pop("value"),), fields

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __repr__(self) -> str:
        bounds = "" if self.low is None else f" [{self.low:.6g}, {self.high:.6g}]"
        unit = "" if self.unit == "1" else f" {self.unit}"
        n = "" if self.n is None else f", n={self.n}"
        return f"<{self.name or 'measurement'} {float(self):.6g}{bounds}{unit}{n}>"


class MeasurementFields(BaseModel):
    """A Measurement as it stands in a record."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="what was computed, as a protocol name, e.g. fd_effnetlite0_mid")
    value: float | None = Field(description="point estimate; null where it is not a finite number")
    low: float | None = Field(None, description="lower end of the 95 % interval; null where none can be given")
    high: float | None = Field(None, description="upper end of the 95 % interval; null where none can be given")
    n: int | None = Field(None, description="number of samples, images or repetitions the value rests on")
    unit: str = Field("1", description="unit; '1' for a pure number")
    direction: Direction = Field("none", description="which way is better")
    interval: str | None = Field(None, description="how the interval was made; 'exact' for counts")
    note: str | None = Field(None, description="a warning for the reader")
    source: str = Field(
        "cost", description="registered metric that produced it, or 'cost' for what the harness measured"
    )
    protocol: str = Field(
        "", description="short hash of all that must agree before two numbers may stand in one column"
    )


class CurvePoint(BaseModel):
    """One point of a curve: where it was taken and what was measured there."""

    model_config = ConfigDict(extra="forbid")

    at: dict[str, float] = Field(
        description="where: share of the budget, seconds, images and steps of training; batch; steps and nfe"
    )
    measurements: list[MeasurementFields] = Field(description="every number taken at this point")
    failure: str | None = Field(None, description="why there are no measurements, in one sentence")


class Record(BaseModel):
    """What a trial leaves behind: one JSON line of ``records.jsonl``."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = Field(1, description="version of this schema")
    trial: str = Field(description="content hash of data, model code, config, seed, budget and device class")
    suite: str = Field(description="suite of benchmarks.toml")
    dataset: str = Field(description="name of the data set variant")
    model: str = Field(description="name of the model variant")
    family: str = Field("other", description="family of the model")
    role: Literal["trained", "baseline", "floor"] = Field("trained", description="how the row is shown")
    seed: int = Field(description="training seed; the sampling seed derives from it")
    status: Status = Field(description="'complete', or how the trial ended instead")
    reason: str | None = Field(None, description="why it did not complete, in one sentence")
    started: str = Field(description="UTC time of the start, ISO 8601")
    budget: dict[str, float] = Field(description="what training could spend: unit -> amount")
    config: dict[str, Any] = Field(description="the resolved trial: targets, options, batch sizes, precision, samples")
    measurements: list[MeasurementFields] = Field(description="every number, with its interval")
    scoring: dict[str, str] = Field(description="metric -> digest of its code, options and extractor")
    training: dict[str, Any] = Field(
        default_factory=dict, description="steps, images, losses, precision chosen and why"
    )
    curves: dict[str, list[CurvePoint]] = Field(
        default_factory=dict,
        description="'training' (quality at checkpoints), 'batch' (speed by batch size), 'nfe' (quality by sampling steps)",
    )
    seconds: dict[str, float] = Field(default_factory=dict, description="wall seconds of each phase of the trial")
    artifacts: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the sample set and the weights")
    environment: str = Field(description="short hash of hardware and versions that decide speed")
    provenance: dict[str, Any] = Field(description="hardware, versions, git state, data set licence and digest")

    def get(self, name: str) -> Measurement:
        """The measurement called ``name``; KeyError where the trial has none."""
        for fields in self.measurements:
            if fields.name == name:
                return Measurement.from_dict(fields.model_dump(exclude={"protocol", "source"}))
        raise KeyError(name)

    def to_line(self) -> str:
        """One line of strict JSON (no NaN, no newline)."""
        return self.model_dump_json()


def fields_of(measurement: Measurement, source: str, protocol: str) -> MeasurementFields:
    """A measurement as it is stored; a value that is not finite becomes null with a note."""
    fields = measurement.to_dict()
    for key in ("value", "low", "high"):
        if fields[key] is not None and not math.isfinite(fields[key]):
            fields[key] = None
    if fields["value"] is None:
        fields["note"] = fields["note"] or "not a finite number"
    if fields["low"] is None or fields["high"] is None:
        fields["low"] = fields["high"] = None
    return MeasurementFields(**fields, source=source, protocol=protocol)


def extractor_names(config: Mapping[str, Any]) -> str:
    """The extractors that a record's ``config`` names, the first of which ranks; '' for none."""
    one = config.get("extractor")  # of records from before there could be several
    return ", ".join(part["name"] for part in config.get("extractors") or ([one] if one else []))
