"""Where a number comes from: hardware, versions, git state, digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("gen-bench", "torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "scikit-learn")


def short_hash(content: Any) -> str:
    """Twelve hex digits of the SHA-256 of ``content`` as canonical JSON."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no spaces: equal content, equal text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def has_cuda() -> bool:
    """Is there a CUDA device that torch can use? Imports torch only where a driver is present."""
    driver = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the second under WSL
    if not driver and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return False
    import torch

    return torch.cuda.is_available()


def cuda_devices() -> int:
    """How many CUDA devices torch can use."""
    if not has_cuda():
        return 0
    import torch

    return torch.cuda.device_count()


@functools.cache
def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """What decides speed: processor, cores, memory and, on CUDA, the device."""
    import psutil

    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device,
    }
    if device.startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
    return found


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit of the working directory's repository and whether it had uncommitted changes; {} outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def environment(device: str) -> tuple[str, dict[str, Any]]:
    """(short hash, details) of hardware, threads and versions: two speeds compare only where the hash agrees."""
    import torch

    machine = hardware(device)
    found = {"hardware": machine, "threads": torch.get_num_threads(), "versions": versions()}
    speed = {
        **machine,
        "threads": found["threads"],
        "torch": torch.__version__.partition("+")[0],
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    speed["device"] = device.partition(":")[0]  # equal devices of one machine are one environment
    del speed["memory_gib"]
    return short_hash(speed), found
