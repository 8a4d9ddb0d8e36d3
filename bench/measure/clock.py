"""Reading time: work is synchronised before a clock is read.

On CUDA stretches are timed by events on the current stream, with one synchronisation at the end; on a CPU by
``perf_counter_ns``. What is made of many readings stands in blocks.py and latency.py.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished what it was given (nothing to do on a CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Lap:
    """Times one stretch of work: ``start()``, work, ``stop()`` -> seconds. ``stop`` synchronises once."""

    def __init__(self, device: torch.device) -> None:
        self._marks = Marks(device)

    def start(self) -> None:
        self._marks = Marks(self._marks.device)
        self._marks.mark()

    def stop(self) -> float:
        self._marks.mark()
        return self._marks.seconds()[0]


class Marks:
    """Points in time on the device, read together: ``mark()`` as often as wanted, then ``seconds()`` between them.

    A mark costs 0.1 microseconds on a CPU; on CUDA it is an event on the device's current stream, and nothing waits for it until
    ``seconds()`` synchronises once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record(
                torch.cuda.current_stream(self.device)
            )  # without it: of the current device, which may be another one
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter_ns())

    def seconds(self) -> list[float]:
        """Seconds between each mark and the next; forgets all marks but the last."""
        if len(self._marks) < 2:
            return []
        pairs = list(zip(self._marks, self._marks[1:]))
        if self._cuda:
            self._marks[-1].synchronize()
            found = [float(first.elapsed_time(second)) * 1e-3 for first, second in pairs]
        else:
            found = [(second - first) * 1e-9 for first, second in pairs]
        self._marks = self._marks[-1:]
        return found

    def clear(self) -> None:
        """Forget all marks: the clock has been stopped."""
        self._marks.clear()


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call of ``work``, device work included."""
    lap = Lap(device)
    synchronise(device)
    lap.start()
    work()
    return lap.stop()


@contextmanager
def quiet_garbage() -> Iterator[None]:
    """No garbage collection inside, and what is alive is not looked through again: a collection in the middle of a lap is not
    the model's cost."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
