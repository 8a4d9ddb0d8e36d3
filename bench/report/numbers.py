"""Numbers as text: the interval decides how many digits are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.stats.intervals import Estimate

MISSING = "–"


def format_estimate(estimate: Estimate | None, scale: int = 0) -> str:
    """``1.23 ± 0.04``, or ``1.23 [1.20, 1.31]`` where the interval is lopsided or only a range; a bare value has no interval.

    The half-width is rounded by the rule of the Particle Data Group ("Review of Particle Physics", section 5.3: one or two
    digits) and the value to the same place. From 100 000 on, thousands are shortened (``203k ± 14k``). Values are shown in units
    of ``10**scale``.
    """
    if estimate is None or not math.isfinite(estimate.value):
        return MISSING
    value, low, high = (None if v is None else v * 10.0**-scale for v in (estimate.value, estimate.low, estimate.high))
    assert value is not None
    if low is None or high is None:
        return format_number(value)
    below, above = value - low, high - value
    if max(below, above) <= 1e-12 * abs(value):
        return format_number(value, digits=4)
    if max(abs(value), abs(low), abs(high)) >= 1e12:
        exponent = math.floor(math.log10(max(abs(value), abs(low), abs(high))))
        return f"({format_estimate(estimate, scale + exponent)})e{exponent}"
    factor, suffix = _thousands(max(abs(value), abs(low), abs(high)))
    value, low, high, below, above = (v / factor for v in (value, low, high, below, above))
    if estimate.method != "min-max" and abs(below - above) <= 0.1 * max(below, above):
        half, decimals = round_error((high - low) / 2)
        return f"{_fixed(value, decimals)}{suffix} ± {_fixed(half, decimals)}{suffix}"
    larger, smaller = max(abs(below), abs(above)), min(abs(below), abs(above))
    _, decimals = round_error(max(smaller, larger / 10))
    return f"{_fixed(value, decimals)}{suffix} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"


def round_error(error: float) -> tuple[float, int]:
    """(rounded error, decimals): two digits where the leading three are 100 to 354, else one (950 and above become 1000)."""
    exponent = math.floor(math.log10(error))
    leading = round(error / 10.0 ** (exponent - 2))
    if leading >= 950:
        exponent, digits = exponent + 1, 2
    elif leading >= 355:
        digits = 1
    else:
        digits = 2
    decimals = digits - 1 - exponent
    return round(error, decimals), decimals


def format_number(value: float, digits: int = 3) -> str:
    """A number without interval: whole numbers in full, others to ``digits`` significant digits."""
    if not math.isfinite(value):
        return MISSING
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    if abs(value) >= 1e12:
        return f"{value:.{digits - 1}e}".replace("e+", "e")
    return _fixed(value, digits - 1 - math.floor(math.log10(abs(value))))


def column_scale(values: Iterable[float]) -> int:
    """The power of ten (a multiple of 3) in whose units a column reads best: 0 unless all its values are tiny or huge."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not sizes:
        return 0
    if max(sizes) < 0.1:
        return 3 * math.floor(math.log10(max(sizes)) / 3)
    if min(sizes) >= 1e6:
        return 3 * math.floor(math.log10(min(sizes)) / 3)
    return 0


def _thousands(size: float) -> tuple[float, str]:
    """(factor, suffix) for sizes from 100 000 on: 203k, 1.05M, 3.2G."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= max(factor, 1e5):
            return factor, suffix
    return 1.0, ""


def _fixed(value: float, decimals: int) -> str:
    """Fixed-point text; four digits in front of the point stay together, more get separators; tiny numbers go scientific."""
    if decimals > 8 and value != 0:
        return f"{value:.{max(0, decimals + math.floor(math.log10(abs(value))))}e}"
    value = round(value, decimals)
    if value == 0:
        value = 0.0  # no "-0"
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.replace(",", "") if abs(value) < 10_000 else text
