"""Measurement and Record: the versioned result schema (v1). One record is one JSON line.

Imports no torch: reports, comparisons and gates are made from records alone.
"""

from __future__ import annotations

import math
from typing import Any, Literal

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
    low, high: the ends of the 95 % interval, ``low <= high``. They need not enclose ``value`` where ``value`` is biased.
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

    def __repr__(self) -> str:
        bounds = "" if self.low is None else f" [{self.low:.6g}, {self.high:.6g}]"
        unit = "" if self.unit == "1" else f" {self.unit}"
        n = "" if self.n is None else f", n={self.n}"
        return f"<{self.name or 'measurement'} {float(self):.6g}{bounds}{unit}{n}>"
