"""Time that can be believed: work is synchronised before the clock is read, and every rate carries an interval.

On CUDA a lap is timed by events on the current stream, recorded around the work; on a CPU by ``perf_counter_ns``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from bench.record import Measurement
from bench.stats.intervals import median_interval


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished what it was given (nothing to do on a CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Lap:
    """Times one stretch of work: ``start()``, work, ``stop()`` -> seconds. ``stop`` synchronises once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._began = 0

    def start(self) -> None:
        if self._cuda:
            self._start_event = torch.cuda.Event(enable_timing=True)
            self._start_event.record()
        else:
            self._began = time.perf_counter_ns()

    def stop(self) -> float:
        if self._cuda:
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            end.synchronize()
            return float(self._start_event.elapsed_time(end)) * 1e-3
        return (time.perf_counter_ns() - self._began) * 1e-9


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call of ``work``, device work included."""
    lap = Lap(device)
    synchronise(device)
    lap.start()
    work()
    return lap.stop()


@contextmanager
def quiet_garbage() -> Iterator[None]:
    """No garbage collection inside: a collection in the middle of a lap is not the model's cost."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def repeat_until_tight(
    work: Callable[[], object],
    device: torch.device,
    seconds: Sequence[float] = (),
    *,
    relative: float = 0.02,
    minimum: int = 6,
    cap_seconds: float = 3.0,
) -> list[float]:
    """Time ``work`` again and again until the 95 % interval of the median lap is within ``relative``, or the cap is reached.

    seconds: laps already timed; they count. Returns all laps in seconds.
    """
    laps = list(seconds)
    spent = 0.0
    with quiet_garbage():
        while not (len(laps) >= minimum and is_tight(laps, relative)) and (spent < cap_seconds or len(laps) < 2):
            laps.append(time_once(work, device))
            spent += laps[-1]
    return laps


def is_tight(laps: Sequence[float], relative: float) -> bool:
    """Is the 95 % interval of the median within ``relative`` of it on either side?"""
    middle = median_interval(laps)
    if middle.low is None or middle.high is None:
        return False
    return max(middle.high - middle.value, middle.value - middle.low) <= relative * middle.value


def rate(
    name: str, laps: Sequence[float], items: float, *, unit: str = "images/s", relative: float = 0.02
) -> Measurement:
    """Items per second from laps of ``items`` each: the median lap's rate with the order-statistic interval of the median.

    A rate whose interval is wider than ``relative`` carries the note ``noisy``; with too few laps for an interval (n < 6)
    there is none and the note says so.
    """
    if len(laps) == 0:
        raise ValueError(f"measurement '{name}' needs at least one lap")
    middle = median_interval(laps)
    value = items / max(middle.value, 1e-12)
    if middle.low is None or middle.high is None:
        return Measurement(
            value, name=name, n=len(laps), unit=unit, direction="higher", note="too few laps for an interval"
        )
    note = None if is_tight(laps, relative) else "noisy"
    return Measurement(
        value,
        name=name,
        low=items / middle.high,
        high=items / max(middle.low, 1e-12),
        n=len(laps),
        unit=unit,
        direction="higher",
        interval=middle.method,
        note=note,
    )
