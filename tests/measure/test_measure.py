"""Known costs are measured as what they are."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from bench.measure.clock import Lap, is_tight, rate, repeat_until_tight, time_once

CPU = torch.device("cpu")


def spin(seconds):
    """Busy for a known time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize("seconds", [0.001, 0.02])
def test_a_known_cost_is_measured(seconds):
    laps = repeat_until_tight(lambda: spin(seconds), CPU, cap_seconds=2.0)
    measured = rate("throughput", laps, 10)
    assert measured == pytest.approx(10 / seconds, rel=0.3)  # other work may run here; benchmarks are stricter
    assert measured.low <= measured <= measured.high
    assert measured.unit == "images/s"


def test_noise_is_said():
    rng = np.random.default_rng(0)
    noisy = rate("throughput", rng.lognormal(0, 0.5, 20), 1)
    assert noisy.note == "noisy"
    assert not is_tight(list(rng.lognormal(0, 0.5, 20)), 0.02)
    few = rate("throughput", [1.0, 1.1], 1)
    assert few.low is None
    assert few.note == "too few laps for an interval"


def test_the_cap_ends_a_noisy_measurement():
    state = np.random.default_rng(0)
    began = time.perf_counter()
    repeat_until_tight(lambda: spin(state.uniform(0.001, 0.02)), CPU, cap_seconds=0.3)
    assert time.perf_counter() - began < 1.5


def test_lap_and_time_once():
    lap = Lap(CPU)
    lap.start()
    spin(0.01)
    assert lap.stop() == pytest.approx(0.01, abs=0.005)
    assert time_once(lambda: spin(0.01), CPU) == pytest.approx(0.01, abs=0.005)


def test_planted_memory_is_found():
    """64 MiB held inside a phase raise its peak by 64 MiB, in a process of its own."""
    code = """
import torch
from bench.measure.memory import PeakMemory
cpu = torch.device("cpu")
del_me = torch.ones(2**18)  # pages in the library's code
del del_me
empty = PeakMemory(cpu).measure("peak")
peak = PeakMemory(cpu)
block = torch.ones(64 * 2**18)  # 64 MiB of float32
held = peak.measure("peak")
del block
after = PeakMemory(cpu).measure("peak")
print(held - empty, after - empty)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    held, after = map(float, done.stdout.split())
    assert held == pytest.approx(64, abs=4), done.stderr
    assert abs(after) < 4
