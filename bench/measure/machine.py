"""What else the machine did while we measured: other processes, clocks, throttling, threads. Linux; elsewhere less is known."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from bench.measure import nvml

FOREIGN_LOAD = 0.1
"""Share of the machine's cores from which on other work is worth a warning."""

BUSY = "other work ran on the machine"
THROTTLED = "the device throttled its clocks"
SHARED = "another process held the device"
SHARE_THROTTLED = 0.01
"""Share of a phase with clocks held back from which on it is said."""


class Watch:
    """Looks at the machine when a phase begins and when it ends; ``stop()`` says what happened in between."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._began = time.monotonic()
        self._busy, self._stolen, self._all = _cpu_jiffies()
        self._own = _own_seconds()
        self._clock = _cpu_mhz()
        self._throttled = nvml.throttled_seconds(device)

    def stop(self, partners_seconds: float = 0.0) -> dict[str, Any]:
        """partners_seconds: processor seconds of other processes that do the same work; they are not foreign.

        foreign_load and stolen: shares of all cores' time; cpu_mhz: at both ends; on CUDA clocks, the share of the phase in which
        they were held back, by reason, and other processes.

        What cannot be known here is absent.
        """
        seconds = time.monotonic() - self._began
        busy, stolen, everything = (
            now - then for now, then in zip(_cpu_jiffies(), (self._busy, self._stolen, self._all))
        )
        found: dict[str, Any] = {"seconds": round(seconds, 2), "load_average": _load_average()}
        cores = os.cpu_count() or 1
        if everything > 0:
            own = (_own_seconds() - self._own + partners_seconds) / (seconds * cores) if seconds > 0 else 0.0
            found["foreign_load"] = round(max(0.0, busy / everything - own), 3)
            found["stolen"] = round(stolen / everything, 3)
        clock = _cpu_mhz()
        if clock and self._clock:
            found["cpu_mhz"] = [self._clock, clock]
        found |= nvml.clocks(self.device)
        throttled = nvml.throttled_seconds(self.device)
        if throttled:  # the counters see the whole phase; the reasons above are those of an idle device, after its end
            found["throttled_share"] = {
                reason: round((total - self._throttled.get(reason, total)) / max(seconds, 1e-9), 4)
                for reason, total in throttled.items()
            }
        return {key: value for key, value in found.items() if value is not None}


def warning(found: dict[str, Any]) -> str | None:
    """What a reader of a speed must know of the machine while it was measured; None where nothing stands out."""
    held_back = max(found.get("throttled_share", {}).values(), default=0.0)
    if held_back > SHARE_THROTTLED or found.get("throttle_reasons"):
        return THROTTLED
    if found.get("foreign_processes"):
        return SHARED
    return BUSY if found.get("foreign_load", 0.0) > FOREIGN_LOAD else None


def threads() -> dict[str, Any]:
    """Threads and the cores that they may run on. The number is fixed for a run; the system moves them between those cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    binding = os.environ.get("OMP_PROC_BIND", "")
    found = {
        "intra_op": torch.get_num_threads(),
        "inter_op": torch.get_num_interop_threads(),
        "cores": cores,
        "bound": binding.lower() not in ("", "false"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _cpu_jiffies() -> tuple[int, int, int]:
    """(busy, stolen by the hypervisor, all) of all cores since the start; zeros where the system does not tell."""
    line = (_read("/proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return 0, 0, 0
    user, nice, system, idle, waiting, irq, softirq, stolen = map(int, line[1:9])
    busy = user + nice + system + irq + softirq
    return busy, stolen, busy + idle + waiting + stolen


def _own_seconds() -> float:
    """Processor seconds of this process, all its threads together."""
    return time.process_time()


def _cpu_mhz() -> int | None:
    clocks = [
        float(line.partition(":")[2])
        for line in (_read("/proc/cpuinfo") or "").splitlines()
        if line.startswith("cpu MHz")
    ]
    return round(sum(clocks) / len(clocks)) if clocks else None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
