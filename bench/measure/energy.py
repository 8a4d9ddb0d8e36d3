"""Energy of a phase from hardware counters: NVML's total-energy counter on a GPU, RAPL on a CPU. Never an estimate.

The difference of a counter over a window that begins and ends with a synchronisation. Where there is no counter, or it may not be
read, nothing is reported and ``why_not()`` says so.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from bench.measure import nvml
from bench.measure.clock import synchronise
from bench.record import Measurement

RAPL = Path("/sys/class/powercap")
SHORTEST_WINDOW = 1.0
"""Seconds: ten periods of a counter that is updated every 100 ms."""

IDLE_SECONDS = 1.0
TOO_SHORT = "shorter than ten periods of the energy counter"


class EnergyMeter:
    """Joules since ``start()``, without what lay between ``pause()`` and ``resume()``; None where this machine has no counter that may be
    read."""

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self.device = device
        self._packages = [] if device.type == "cuda" else _readable_packages(rapl)
        self._began = 0.0
        self._first: list[float] | None = None
        self._windows: list[tuple[float, float] | None] = []

    @property
    def source(self) -> str | None:
        """``nvml``, ``rapl`` or None."""
        if self._packages:
            return "rapl"
        return "nvml" if nvml.energy_joules(self.device) is not None else None

    def why_not(self) -> str | None:
        """Why energy cannot be measured here; None where it can."""
        if self.source is not None:
            return None
        if self.device.type == "cuda":
            return "not measured: NVML has no energy counter here (nvidia-ml-py, Volta or later)"
        return "not measured: no readable RAPL counter under /sys/class/powercap"

    def start(self) -> None:
        self._windows = []
        self.resume()

    def pause(self) -> None:
        self._windows.append(self._window())

    def resume(self) -> None:
        synchronise(self.device)
        self._first, self._began = self._read(), time.perf_counter()

    def stop(self) -> tuple[float, float] | None:
        """(joules, seconds) since ``start()``."""
        self.pause()
        known = [window for window in self._windows if window is not None]
        if len(known) < len(self._windows):
            return None
        return sum(joules for joules, _ in known), sum(seconds for _, seconds in known)

    def _window(self) -> tuple[float, float] | None:
        synchronise(self.device)
        last, seconds = self._read(), time.perf_counter() - self._began
        if self._first is None or last is None:
            return None
        if not self._packages:
            return last[0] - self._first[0], seconds
        joules = 0.0
        for package, before, after in zip(self._packages, self._first, last):
            joules += after - before if after >= before else after - before + _range_joules(package)  # it wraps around
        return joules, seconds

    def idle_watts(self, seconds: float = IDLE_SECONDS) -> float | None:
        """Mean power while this process does nothing. Waits ``seconds`` only where there is a counter."""
        if self.source is None:
            return None
        self.start()
        time.sleep(seconds)
        found = self.stop()
        return None if found is None else found[0] / found[1]

    def _read(self) -> list[float] | None:
        if self._packages:
            return [_joules(package) for package in self._packages]
        joules = nvml.energy_joules(self.device)
        return None if joules is None else [joules]


def energy_measurements(
    phase: str, reading: tuple[float, float] | None, images: float, idle_watts: float | None
) -> list[Measurement]:
    """Joules an image, mean watts, and joules an image above idle. Empty where nothing was read.

    phase: ``training`` or ``sampling``. reading: (joules, seconds) of the phase. images: made or seen in it.
    """
    if reading is None or images <= 0:
        return []
    joules, seconds = reading
    note = TOO_SHORT if seconds < SHORTEST_WINDOW else None
    found = [
        _one(f"{phase}_energy_per_image", joules / images, "J/image", note),
        _one(f"{phase}_mean_power", joules / seconds, "W", note),
    ]
    if idle_watts is not None:
        above = max(0.0, joules - idle_watts * seconds) / images
        found.append(_one(f"{phase}_energy_per_image_above_idle", above, "J/image", note))
    return found


def _one(name: str, value: float, unit: str, note: str | None) -> Measurement:
    return Measurement(
        value, name=name, low=value, high=value, n=1, unit=unit, direction="lower", interval="exact", note=note
    )


def _readable_packages(rapl: Path) -> list[Path]:
    """RAPL domains of whole packages (their subdomains are parts of them) whose counter this user may read."""
    found = []
    for domain in sorted(rapl.glob("intel-rapl:*")):
        try:
            if domain.name.count(":") == 1 and (domain / "name").read_text().startswith("package"):
                _joules(domain)
                found.append(domain)
        except (OSError, ValueError):
            continue
    return found


def _joules(domain: Path) -> float:
    return int((domain / "energy_uj").read_text()) * 1e-6


def _range_joules(domain: Path) -> float:
    return int((domain / "max_energy_range_uj").read_text()) * 1e-6
