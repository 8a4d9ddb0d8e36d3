"""The driver's own counters of an NVIDIA device (nvidia-ml-py): energy, clocks, throttling, memory. Absent -> None or {}."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

# What slows a device down beyond its own idling and the limits that were set for it (nvml.h, nvmlClocksEventReasons).
_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal (software)",
    0x0000000000000040: "thermal (hardware)",
    0x0000000000000080: "power brake",
}


@functools.cache
def _library() -> Any:
    """pynvml, initialised; None where the package or the driver is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml
    except Exception:
        return None


@functools.cache
def _handle(device: torch.device) -> Any:
    """The device's handle, by UUID where torch tells it (CUDA_VISIBLE_DEVICES renumbers devices)."""
    library = _library()
    if library is None or device.type != "cuda":
        return None
    index = device.index or 0
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    try:
        if uuid is not None:
            return library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        return library.nvmlDeviceGetHandleByIndex(index)
    except Exception:
        return None


def _ask(device: torch.device, question: str, *arguments: Any) -> Any:
    """One NVML call on the device; None where it cannot be answered."""
    if device.type != "cuda":
        return None
    handle = _handle(device)
    if handle is None:
        return None
    try:
        return getattr(_library(), question)(handle, *arguments)
    except Exception:
        return None


def energy_joules(device: torch.device) -> float | None:
    """The device's total-energy counter (Volta and later); it counts since the driver was loaded."""
    millijoules = _ask(device, "nvmlDeviceGetTotalEnergyConsumption")
    return None if millijoules is None else float(millijoules) / 1000


def process_memory_mib(device: torch.device) -> float | None:
    """What the device holds for this process, context and libraries included."""
    for process in _ask(device, "nvmlDeviceGetComputeRunningProcesses") or []:
        if process.pid == os.getpid() and process.usedGpuMemory is not None:
            return float(process.usedGpuMemory) / 2**20
    return None


def clocks(device: torch.device) -> dict[str, Any]:
    """Clocks in MHz, temperature, power limit, throttle reasons and the number of foreign processes; {} without a driver."""
    if device.type != "cuda" or _handle(device) is None:
        return {}
    reasons = _ask(device, "nvmlDeviceGetCurrentClocksThrottleReasons")
    processes = _ask(device, "nvmlDeviceGetComputeRunningProcesses")
    found = {
        "sm_mhz": _ask(device, "nvmlDeviceGetClockInfo", 1),  # NVML_CLOCK_SM
        "memory_mhz": _ask(device, "nvmlDeviceGetClockInfo", 2),  # NVML_CLOCK_MEM
        "celsius": _ask(device, "nvmlDeviceGetTemperature", 0),  # NVML_TEMPERATURE_GPU
        "throttle_reasons": None if reasons is None else [said for bit, said in _REASONS.items() if reasons & bit],
        "foreign_processes": None if processes is None else sum(p.pid != os.getpid() for p in processes),
    }
    return {key: value for key, value in found.items() if value is not None}


def driver() -> str | None:
    """The driver's version."""
    library = _library()
    if library is None:
        return None
    version = library.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)
