"""Digits are decided by the interval."""

import math

import numpy as np
import pytest

from bench.report.columns import Column, group_and_importance
from bench.report.numbers import column_scale, format_estimate, format_number, round_error
from bench.stats.intervals import Estimate


def pm(value, half, method="t"):
    return Estimate(value, value - half, value + half, 3, method)


@pytest.mark.parametrize(
    ("error", "rounded", "decimals"),
    # The Particle Data Group's own examples: .827 ± .119 -> .83 ± .12, .827 ± .367 -> .8 ± .4
    [
        (0.119, 0.12, 2),
        (0.367, 0.4, 1),
        (0.354, 0.35, 2),
        (0.355, 0.4, 1),
        (0.949, 0.9, 1),
        (0.951, 1.0, 1),
        (1234, 1200, -2),
    ],
)
def test_error_is_rounded_by_the_particle_data_groups_rule(error, rounded, decimals):
    assert round_error(error) == (rounded, decimals)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (pm(0.827, 0.119), "0.83 ± 0.12"),
        (pm(0.827, 0.367), "0.8 ± 0.4"),
        (pm(12345.6, 678.9), "12,300 ± 700"),
        (pm(1234.5, 67.8), "1230 ± 70"),
        (pm(3.34e14, 0.512e14), "(3.3 ± 0.5)e14"),
        (Estimate(2.5e15, None, None, 1, "none"), "2.50e15"),
        (pm(203_456, 14_000), "203k ± 14k"),
        (pm(1_050_000, 124_000), "1.05M ± 0.12M"),
        (Estimate(2.5e9, 2.4e9, 2.9e9, 9, "bootstrap"), "2.50G [2.40, 2.90]"),
        (pm(3.0, 41.0), "0 ± 40"),
        (pm(0.003, 0.049), "0.00 ± 0.05"),
        (pm(-0.00004, 0.002), "0.0000 ± 0.0020"),
        (pm(5, 0), "5"),
        (pm(262144, 0), "262,144"),
        (pm(0.3333333, 0), "0.3333"),
        (Estimate(2.0, 1.5, 2.5, 2, "min-max"), "2.0 [1.5, 2.5]"),
        (Estimate(0.9, 0.7, 0.95, 40, "wilson"), "0.90 [0.70, 0.95]"),
        (Estimate(1.23456, None, None, 1, "none"), "1.23"),
        (Estimate(0.0, None, None, 1, "none"), "0"),
        (Estimate(math.nan, None, None, 1, "none"), "–"),
        (None, "–"),
    ],
)
def test_estimates_as_text(estimate, text):
    assert format_estimate(estimate) == text


def test_biased_value_outside_its_interval_is_shown_as_it_is():
    assert format_estimate(Estimate(1.5, 0.9, 1.3, 500, "influence+jackknife")) == "1.50 [0.90, 1.30]"


def test_text_reads_back_within_the_interval():
    rng = np.random.default_rng()
    for _ in range(300):
        value = float(rng.normal() * 10 ** rng.uniform(-4, 4))
        half = abs(value) * float(10 ** rng.uniform(-4, 0.5))
        shown, error = (float(part.replace(",", "")) for part in format_estimate(pm(value, half)).split(" ± "))
        assert abs(shown - value) <= 0.16 * half
        assert abs(error - half) <= 0.16 * half


def test_a_column_of_tiny_numbers_is_scaled_in_its_header():
    assert column_scale([0.05, 0.0031, -0.0001]) == -3
    assert column_scale([0.5, 0.0031]) == 0
    assert column_scale([2.5e9, 3e10]) == 9
    assert column_scale([500.0, 3e10]) == 0
    assert column_scale([0.0, math.nan]) == 0
    assert format_estimate(pm(0.0123, 0.0011), scale=-3) == "12.3 ± 1.1"
    assert Column("kid_effnetlite0", "a", None, "1", "lower").header(-3) == "kid_effnetlite0 ↓ (10⁻³)"
    assert Column("sampling_throughput", "a", "e", "images/s", "higher").header() == "sampling_throughput ↑ (images/s)"
    assert Column("fd_x", "a", None, "1", "lower", mark="1a2b").header() == "fd_x @1a2b ↓"


def test_metrics_find_their_group_by_name_then_by_unit():
    assert group_and_importance("kid_effnetlite0")[0] == "quality"
    assert group_and_importance("kidney")[0] == "quality"
    assert group_and_importance("kidney")[1] > group_and_importance("kid_x")[1]
    assert group_and_importance("clipped_coverage_x")[0] == "diversity"
    assert group_and_importance("bits_per_dim_upper_bound")[0] == "reconstruction and likelihood"
    assert group_and_importance("sampling-throughput", "images/s")[0] == "speed"
    assert group_and_importance("wall", "s")[0] == "speed"
    assert group_and_importance("energy_per_image", "J/image")[0] == "cost"
    assert group_and_importance("something", "MiB")[0] == "memory and size"


def test_plain_numbers():
    assert format_number(1234567) == "1,234,567"
    assert format_number(0.00012345) == "0.000123"
    assert format_number(math.inf) == "–"
