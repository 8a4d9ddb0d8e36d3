"""The card of one record."""

import io

import numpy as np
import pytest
from rich.console import Console

from bench.record import Measurement, Record, fields_of
from bench.report.card import record_card, sparkline

MEASUREMENTS = [
    Measurement(
        0.0123, name="kid_effnetlite0", low=0.0111, high=0.0141, n=500, direction="lower", interval="jackknife"
    ),
    Measurement(
        21.4, name="fd_effnetlite0", n=500, direction="lower", note="no interval for n < 1280; read the kernel distance"
    ),
    Measurement(0.81, name="coverage_effnetlite0", low=0.76, high=0.85, n=500, direction="higher", interval="wilson"),
    Measurement(
        91.3, name="sampling_throughput", low=90.1, high=92.5, n=9, unit="images/s", direction="higher", interval="t"
    ),
    Measurement(262144, name="parameters", low=262144, high=262144, n=1, direction="none", interval="exact"),
    Measurement(float("nan"), name="bits_per_dim_upper_bound", unit="bits/dim", direction="lower"),
]


def record(**changes):
    fields = {
        "trial": "0123456789abcdef", "suite": "quick", "dataset": "digits16", "model": "ddpm", "family": "diffusion", "seed": 1,
        "status": "complete", "started": "2026-11-22T20:00:00+00:00", "budget": {"seconds": 10.0},
        "config": {"samples": 500, "extractor": {"name": "effnetlite0"}, "model_config_": {"width": 32}},
        "measurements": [fields_of(m, "cost", "p") for m in MEASUREMENTS], "scoring": {},
        "training": {"steps": 1234, "images": 78976, "losses": {"loss": list(np.linspace(1, 0.1, 80))}, "precision": "float32",
                     "capabilities": ["Iterative"], "extractor_version": "v1"},
        "seconds": {"training": 10.02, "sampling": 2.0}, "artifacts": {"samples": "f" * 64}, "environment": "eeeeeeeeeeee",
        "provenance": {"hardware": {"cpu": "Xeon", "cores": 2}, "threads": 2, "versions": {"torch": "2.14.1"},
                       "git": {"commit": "c" * 40, "dirty": True}},
    }  # fmt: skip
    return Record.model_validate({**fields, **changes})


def shown(card, width=120):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(record_card(card.model_dump(mode="json")))
    return console.file.getvalue()


def test_every_measurement_stands_in_its_group_with_its_interval():
    text = shown(record())
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["kid_effnetlite0"][:4] == ["kid_effnetlite0", "↓", "0.0123", "[0.0111,"]
    assert lines["fd_effnetlite0"] == ["fd_effnetlite0", "↓", "21.40", "none", "500"]
    assert lines["coverage_effnetlite0"][2:] == ["0.81", "[0.76,", "0.85]", "500", "wilson"]
    assert lines["sampling_throughput"][2:] == ["91.3", "[90.1,", "92.5]", "images/s", "9", "t"]
    assert lines["parameters"] == ["parameters", "262,144", "exact", "1"]
    assert lines["bits_per_dim_upper_bound"][2] == "–"
    order = [
        text.index(f"\n{group}")
        for group in ("quality", "diversity", "reconstruction and likelihood", "speed", "memory and size")
    ]
    assert order == sorted(order)


def test_provenance_and_warnings_are_said():
    text = shown(record())
    for part in (
        "ddpm on digits16, seed 1: complete", "0123456789abcdef", "10 seconds", "1,234 steps, 78,976 images", "width = 32",
        "effnetlite0 v1", "training 10.0, sampling 2.0", "Xeon, 2 cores, 2 threads", "torch 2.14.1", "c" * 12, "f" * 64,
        "fd_effnetlite0: no interval for n < 1280", "bits_per_dim_upper_bound: not a finite number", "uncommitted changes",
    ):  # fmt: skip
        assert part in text


def test_what_was_not_measured_is_said_with_its_reason():
    flops = {
        "training": {"unknown": {"mine.kernel": 1200, "aten.qr": 3}},
        "sampling": "not counted: one sample takes too long",
    }
    text = shown(record(training={"energy": "not measured: no readable RAPL counter", "flops": flops}), width=200)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "energy not measured: no readable RAPL counter" in lines
    assert (
        "FLOPs training without a formula for mine.kernel (1,200 calls), aten.qr (3 calls); "
        "sampling not counted: one sample takes too long"
    ) in lines
    counted = shown(record(training={"energy": "rapl", "flops": {"training": {"unknown": {}}}}))
    assert "rapl" in counted
    assert "FLOPs" not in counted


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_card_keeps_to_the_width_of_the_terminal(width):
    assert max(map(len, shown(record(), width).splitlines())) <= width


def test_a_trial_that_failed_before_anything_was_measured():
    text = shown(
        record(
            status="out-of-memory",
            reason="CUDA out of memory [red]x[/red]",
            measurements=[],
            training={},
            seconds={},
            artifacts={},
            provenance={},
            config={},
        )
    )
    assert "seed 1: out-of-memory" in text
    assert "reason: CUDA out of memory [red]x[/red]" in text
    assert "warnings" not in text


def test_sparkline_follows_the_series():
    assert sparkline([3, 2, 1, 0]) == "█▆▃▁"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([float("nan")]) == ""
    assert len(sparkline(list(range(1000)))) == 40
