"""Peak memory of a phase: CUDA's allocator statistics on a GPU, the process's own high-water mark on a CPU."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from bench.record import Measurement

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Peak memory since ``reset()``. On a CPU it is the resident set of the whole process, libraries included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start a new phase."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._resettable = _reset_high_water_mark()

    def measure(self, name: str) -> Measurement:
        """The peak in MiB: allocated bytes on CUDA, resident bytes on a CPU."""
        if self.device.type == "cuda":
            peak, note = torch.cuda.max_memory_allocated(self.device) / 2**20, None
        else:
            peak = _high_water_mark_mib()
            note = None if self._resettable else "peak since the process began"
        return Measurement(
            peak, name=name, low=peak, high=peak, n=1, unit="MiB", direction="lower", interval="exact", note=note
        )


def _reset_high_water_mark() -> bool:
    """Linux: writing 5 to clear_refs sets VmHWM back to the present size (man 5 proc)."""
    try:
        _CLEAR_REFS.write_text("5")
        return True
    except OSError:
        return False


def _high_water_mark_mib() -> float:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
