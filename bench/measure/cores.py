"""Pinning: a measured process stays on as many cores as it has threads, so that the system does not move it about meanwhile.

Where the system cannot pin processes (macOS, Windows) nothing is done, and the record says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_STAT, _TASKS, _CORES = Path("/proc/stat"), Path("/proc/self/task"), Path("/sys/devices/system/cpu")
LOOK_SECONDS = 0.1
"""How long the cores are watched before the quietest are chosen."""


def allowed_cores() -> set[int] | None:
    """The cores that this process may run on; None where the system does not pin processes."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def quiet_cores(count: int, seconds: float = LOOK_SECONDS) -> list[int]:
    """The ``count`` cores of this process that have least to do just now, ascending; none where the system cannot pin processes.

    One hyperthread of every physical core comes before the second of any: two threads on one core take each other's time.
    """
    allowed = allowed_cores()
    if allowed is None:
        return []
    if count >= len(allowed):
        return sorted(allowed)
    before = _busy_jiffies()
    time.sleep(seconds)
    busy = {core: now - before.get(core, now) for core, now in _busy_jiffies().items()}
    return quietest(allowed, busy, {core: _siblings(core) for core in allowed}, count)


def quietest(
    allowed: set[int], busy: Mapping[int, float], siblings: Mapping[int, frozenset[int]], count: int
) -> list[int]:
    """Choose among ``allowed``. busy: core -> how much it did. siblings: core -> the hyperthreads of its physical core."""

    def place(core: int) -> tuple[int, float, float, int]:
        others = siblings[core]
        mine = (busy.get(core, 0.0), core)
        turn = sum((busy.get(other, 0.0), other) < mine for other in others & allowed)
        return turn, sum(busy.get(other, 0.0) for other in others), mine[0], core

    return sorted(sorted(allowed, key=place)[:count])


@contextlib.contextmanager
def pinned(count: int) -> Iterator[list[int] | None]:
    """Keep this process and all its threads, those to come as well, on the ``count`` quietest cores; as before afterwards.

    Yields the cores. Where it may run on no more than ``count`` already, nothing changes; None where the system cannot pin.
    """
    allowed = allowed_cores()
    if allowed is None or count >= len(allowed):
        yield None if allowed is None else sorted(allowed)
        return
    cores = set(quiet_cores(count))
    try:
        _move(allowed, cores)
    except OSError:  # a sandbox may forbid it
        yield None
        return
    try:
        yield sorted(cores)
    finally:
        with contextlib.suppress(OSError):
            _move(cores, allowed)


def _move(old: set[int], new: set[int]) -> None:
    """From ``old`` to ``new`` for the calling thread and every other one that is on ``old``; threads bound elsewhere stay there."""
    os.sched_setaffinity(0, new)
    for thread in _threads():
        with contextlib.suppress(OSError):  # it may have ended
            if os.sched_getaffinity(thread) == old:
                os.sched_setaffinity(thread, new)


def _threads() -> list[int]:
    try:
        return [int(task.name) for task in _TASKS.iterdir()]
    except OSError:
        return []


def _busy_jiffies() -> dict[int, float]:
    """Core -> time it was not idle since the start; empty where the system does not tell."""
    try:
        text = _STAT.read_text()
    except OSError:
        return {}
    found = {}
    for core, times in re.findall(r"^cpu(\d+) (.*)$", text, re.MULTILINE):
        user, nice, system, _, _, irq, softirq, stolen = map(int, times.split()[:8])
        found[int(core)] = float(user + nice + system + irq + softirq + stolen)
    return found


def _siblings(core: int) -> frozenset[int]:
    """The hyperthreads of the physical core of ``core``, itself among them: "0,64" or "0-1" in the system's words."""
    try:
        text = (_CORES / f"cpu{core}" / "topology" / "thread_siblings_list").read_text().strip()
        ends = [part.partition("-") for part in text.split(",")]
        return frozenset(n for first, _, last in ends for n in range(int(first), int(last or first) + 1)) | {core}
    except (OSError, ValueError):
        return frozenset({core})
