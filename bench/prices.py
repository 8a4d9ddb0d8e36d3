"""What an hour of a device costs: the table ``[[prices]]`` of benchmarks.toml. Imports no torch."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

PRICE_OF = "price of"
"""How the note of every measurement of money begins."""

STALE_DAYS = 183
"""A price that was looked up longer than half a year before a run is said to be old."""


class Price(BaseModel):
    """One row: what an hour of a device cost on a day, and who says so. Rows are data: edit, add and remove them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    device: str = Field(
        min_length=1,
        description="regular expression of the device's whole name as `bench doctor` prints it; the first row that fits counts",
    )
    per_hour: float = Field(gt=0, strict=False, description="price of an hour of ONE such device")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="three letters, ISO 4217")
    date: datetime.date = Field(description="the day on which it was looked up")
    source: str = Field(
        min_length=1,
        description="where the figure is from: an address, a contract, purchase over hours of use and power",
    )

    @field_validator("device")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is not a regular expression: {error}") from None
        return value

    def describe(self, day: datetime.date | None = None) -> str:
        """The price's date and source in words, and that it is old where ``day`` (of the run) lies half a year after it."""
        text = f"{PRICE_OF} {self.date.isoformat()} ({self.source})"
        if day is not None and (day - self.date).days > STALE_DAYS:
            text += ", stale: more than six months older than the run"
        return text


def price_of(prices: Sequence[Price], device_name: str) -> Price | None:
    """The first row whose ``device`` fits the whole name, whatever its case; None where no row does.

    The whole name: a part of a device (MIG) or a board whose name only begins alike (L4, L40S) has another price.
    """
    return next((price for price in prices if re.fullmatch(price.device, device_name, re.IGNORECASE)), None)
