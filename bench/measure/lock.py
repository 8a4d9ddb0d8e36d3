"""One trial at a time on one device: a file lock that holds across processes, runs and users of the machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.errors import BenchError

DRIVER = Path("/proc/driver/nvidia/gpus")
FOLDER_VARIABLE = "BENCH_LOCKS"
"""Environment variable with another folder for the lock files (containers that share a device share the folder)."""


def physical_device(device: str) -> str:
    """What the device is whatever number this process gives it: ``cpu``, or the UUID of the CUDA device; where the driver's files do not
    tell it, its name in CUDA_VISIBLE_DEVICES, or its number."""
    if not device.startswith("cuda"):
        return device
    index = int(device.partition(":")[2] or 0)
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name, uuids = visible[index] if index < len(visible) else str(index), _uuids()
    if name.isdecimal() and int(name) < len(uuids):
        return f"cuda-{uuids[int(name)]}"
    return f"cuda-{next((uuid for uuid in uuids if uuid.startswith(name)), name)}"


def _uuids() -> list[str]:
    """UUIDs of the devices by their place on the bus, from the driver's files; no driver is touched, so that a fork may follow."""
    found = []
    for file in sorted(DRIVER.glob("*/information")):
        with contextlib.suppress(OSError):
            found += re.findall(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)", file.read_text(), re.MULTILINE)
    return found


def lock_file(device: str) -> Path:
    folder = Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir())
    return folder / f"gen-bench-{re.sub(r'[^A-Za-z0-9-]', '-', physical_device(device))}.lock"


def _open(path: Path) -> int:
    """A handle of the file; made where it is not there. (Systems refuse O_CREAT on another user's file in a shared folder.)"""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)


@contextlib.contextmanager
def device_locks(devices: Iterable[str], on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold several devices, taken in one order by everybody, so that two runs never wait for each other."""
    with contextlib.ExitStack() as held:
        for _, device in sorted({physical_device(device): device for device in devices}.items()):
            held.enter_context(device_lock(device, on_wait))
        yield


@contextlib.contextmanager
def device_lock(device: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the device; waits while another trial holds it, and calls ``on_wait`` once before it does.

    The system lets go of the lock when the process ends, however it ends. No driver is touched.
    """
    path = lock_file(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _open(path)
    except OSError as error:
        raise BenchError(
            f"cannot open the device lock '{path}': {error.strerror}; set {FOLDER_VARIABLE} to a folder that can be written"
        ) from None
    try:
        with contextlib.suppress(OSError):
            os.fchmod(handle, 0o666)  # another user's runs must be able to wait for this one
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
