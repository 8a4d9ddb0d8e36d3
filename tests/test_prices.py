"""The price table: whole names, the first row that fits, and what is said of old prices."""

import datetime
from pathlib import Path

import pytest

from bench import costs
from bench.config_file import find_config
from bench.prices import Price, price_of
from bench.record import Measurement
from bench.suite import load_config

SHIPPED = load_config(find_config(Path("benchmarks.toml"))).prices


def row(device, per_hour, date=datetime.date(2026, 3, 1)):
    return Price(device=device, per_hour=per_hour, currency="EUR", date=date, source="contract")


def test_the_first_row_whose_whole_name_fits_counts():
    prices = [row("NVIDIA L4", 1.0), row("nvidia h100.*", 3.0), row("NVIDIA H100 PCIe", 2.0)]
    assert price_of(prices, "NVIDIA H100 PCIe").per_hour == 3
    assert price_of(prices, "NVIDIA L4").per_hour == 1
    assert price_of(prices, "NVIDIA L40S") is None, "another board whose name begins alike"
    assert price_of([], "NVIDIA L4") is None


@pytest.mark.parametrize(
    ("name", "per_hour"),
    [
        ("NVIDIA H200", 4.59),
        ("NVIDIA H100 80GB HBM3", 3.99),
        ("NVIDIA H100 NVL", 3.19),
        ("NVIDIA H100 PCIe", 2.89),
        ("NVIDIA A100 80GB PCIe", 1.79),
        ("NVIDIA A100-SXM4-80GB", 1.79),
        ("NVIDIA A100-SXM4-40GB", 2.7447),
    ],
)
def test_shipped_prices_know_devices_by_the_drivers_names(name, per_hour):
    price = price_of(SHIPPED, name)
    assert price.per_hour == per_hour
    assert "https://" in price.source
    assert price_of(SHIPPED, f"{name} MIG 1g.10gb") is None, "a part of a device has no price"


def test_no_processor_has_a_shipped_price():
    for name in ("AMD EPYC 7B13", "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Apple M3"):
        assert price_of(SHIPPED, name) is None


def test_an_old_price_is_said_to_be_old():
    price = row("NVIDIA L4", 1.0)
    assert "stale" not in price.describe(datetime.date(2026, 8, 31))
    assert "stale" in price.describe(datetime.date(2026, 9, 1))
    speed = Measurement(100.0, name="sampling_throughput", low=90.0, high=110.0, interval="order statistic")
    for found in costs.money_costs([speed], price, 10.0, day=datetime.date(2027, 1, 1)):
        assert found.note == "price of 2026-03-01 (contract), stale: more than six months older than the run"


def test_costs_of_a_known_device():
    """An hour of an H100 for a run of an hour; 1000 images of a hundred a second take ten seconds."""
    price = price_of(SHIPPED, "NVIDIA H100 80GB HBM3")
    speed = Measurement(100.0, name="sampling_throughput", low=80.0, high=125.0, interval="order statistic")
    run, thousand = costs.money_costs([speed], price, 3600.0)
    assert (run, run.unit, run.name) == (price.per_hour, "USD", "cost_per_run")
    assert (thousand.low, thousand, thousand.high) == pytest.approx([price.per_hour * s / 3600 for s in (8, 10, 12.5)])
