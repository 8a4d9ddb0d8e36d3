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
    """The device's handle, by UUID: numbers are renumbered by CUDA_VISIBLE_DEVICES. A part of a device (MIG) has a UUID of its own."""
    library = _library()
    if library is None or device.type != "cuda":
        return None
    uuid = torch.cuda.get_device_properties(device).uuid
    for kind in ("GPU", "MIG"):
        try:
            return library.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}".encode())
        except Exception:
            continue
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
    """What the device holds for this process, context and libraries included; None where the driver does not tell which is ours.

    In a container (see ``foreign_processes``) that is only known where the driver names a single process.
    """
    processes = _ask(device, "nvmlDeviceGetComputeRunningProcesses") or []
    ours = [process for process in processes if process.pid == os.getpid()]
    if not ours and len(processes) == 1 and torch.cuda.memory_reserved(device) > 0:
        ours = processes
    used = ours[0].usedGpuMemory if ours else None
    return None if used is None else float(used) / 2**20


def foreign_processes(device: torch.device) -> int | None:
    """Other processes that hold the device; None where the driver does not tell.

    A container has process numbers of its own, by which the driver does not call us: a process that holds memory on the device
    is then one of those it names.
    """
    processes = _ask(device, "nvmlDeviceGetComputeRunningProcesses")
    if processes is None:
        return None
    others = [process for process in processes if process.pid != os.getpid()]
    if len(others) == len(processes) and torch.cuda.memory_reserved(device) > 0:
        return max(0, len(others) - 1)
    return len(others)


def throttled_seconds(device: torch.device) -> dict[str, float]:
    """For how long, since the driver was loaded, the clocks were held back by power or by heat; what the device does not count is absent."""
    found = {}
    for reason, policy in (("power cap", 0), ("thermal", 1)):  # NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL
        status = _ask(device, "nvmlDeviceGetViolationStatus", policy)
        if status is not None:
            found[reason] = float(status.violationTime) * 1e-9
    return found


def clocks(device: torch.device) -> dict[str, Any]:
    """Clocks in MHz, temperature, power limit, throttle reasons just now, foreign processes, driver; {} without a driver."""
    if device.type != "cuda" or _handle(device) is None:
        return {}
    reasons = _ask(device, "nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # its name before 2023
        reasons = _ask(device, "nvmlDeviceGetCurrentClocksThrottleReasons")
    limit = _ask(device, "nvmlDeviceGetEnforcedPowerLimit")
    found = {
        "sm_mhz": _ask(device, "nvmlDeviceGetClockInfo", 1),  # NVML_CLOCK_SM
        "memory_mhz": _ask(device, "nvmlDeviceGetClockInfo", 2),  # NVML_CLOCK_MEM
        "celsius": _ask(device, "nvmlDeviceGetTemperature", 0),  # NVML_TEMPERATURE_GPU
        "throttle_reasons": None if reasons is None else [said for bit, said in _REASONS.items() if reasons & bit],
        "power_limit_watts": None if limit is None else limit / 1000,
        "foreign_processes": foreign_processes(device),
        "driver": driver(),
    }
    return {key: value for key, value in found.items() if value is not None}


def driver() -> str | None:
    """The driver's version."""
    library = _library()
    if library is None:
        return None
    version = library.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)
