"""Peak memory of a phase: CUDA's allocator statistics on a GPU, the process's own high-water mark on a CPU; and its growth."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.measure import nvml
from bench.record import Measurement

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
NOT_RESET = "peak since the process began"


class PeakMemory:
    """Peak memory since ``reset()``. On a CPU it is the resident set of the whole process, libraries included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start a new phase. On CUDA the allocator gives back what it keeps unused, or an earlier phase's would count as reserved."""
        self._before = 0.0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._restart()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside is not the phase's: its peak does not count. (What CUDA's allocator reserves for it does, and on a CPU
        what the process keeps of it.)"""
        self._before = self.peak_mib()
        try:
            yield
        finally:
            self._restart()

    def _restart(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._resettable = _reset_high_water_mark()

    def peak_mib(self) -> float:
        """The peak so far: allocated bytes on CUDA, resident bytes on a CPU."""
        if self.device.type == "cuda":
            return max(self._before, torch.cuda.max_memory_allocated(self.device) / 2**20)
        return max(self._before, _status_mib("VmHWM") or _lifetime_peak_mib())

    def measure(self, name: str, note: str | None = None) -> Measurement:
        """The peak in MiB. note: of what the reader must be wary."""
        note = note if self.device.type == "cuda" or self._resettable else NOT_RESET
        return mebibytes(name, self.peak_mib(), note)

    def measurements(self, name: str, note: str | None = None) -> list[Measurement]:
        """The peak; on CUDA also what the allocator reserved at its peak and what the driver holds for the process now."""
        found = [self.measure(name, note)]
        if self.device.type == "cuda":
            found.append(mebibytes(f"{name}_reserved", torch.cuda.max_memory_reserved(self.device) / 2**20))
            process = nvml.process_memory_mib(self.device)
            if process is not None:
                found.append(mebibytes(f"{name}_process", process))
        return found


def present_mib(device: torch.device) -> float:
    """Memory held now: allocated bytes on CUDA, resident bytes of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return _status_mib("VmRSS") or _lifetime_peak_mib()


def mebibytes(name: str, value: float, note: str | None = None) -> Measurement:
    """A reading of memory."""
    return Measurement(
        value, name=name, low=value, high=value, n=1, unit="MiB", direction="lower", interval="exact", note=note
    )


def can_reset_peak() -> bool:
    """Can the peak of a single phase be told on this system's CPU?"""
    return _reset_high_water_mark()


def _reset_high_water_mark() -> bool:
    """Linux: writing 5 to clear_refs sets VmHWM back to the present size (man 5 proc)."""
    try:
        _CLEAR_REFS.write_text("5")
        return True
    except OSError:
        return False


def _status_mib(key: str) -> float | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def _lifetime_peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
