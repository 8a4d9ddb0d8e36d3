"""From single laps to a rate that can be believed: warm up until the time stands still, then repeat until it is known.

A *lap* is one call of the work; a *block* is as many laps as last a fiftieth of a second (one lap of slow work), with one
synchronisation at its end. Laps of one block share the machine's mood, so the blocks' medians are the sample that intervals are
made from.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from bench.measure.clock import Marks, quiet_garbage, synchronise
from bench.record import Measurement
from bench.stats.intervals import median_interval

RELATIVE = 0.02
"""How closely warm-up blocks must agree, and how wide the interval of the median may be on either side."""

BLOCK_SECONDS = 0.02
AGREEING = 3
MINIMUM_BLOCKS = 6
CLOCKS_AGREE = 0.05
NOISY = "noisy"
NEVER_SETTLED = "never settled"
CLOCKS_DIFFER = "device and host clock differ"


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was timed after the warm-up.

    blocks: median seconds of a lap, by block. laps: seconds of every lap. warmup_seconds, warmup_blocks: what the warm-up took.
    settled: did the last three warm-up blocks agree? host_ratio: host seconds by device seconds over all blocks (1 on a CPU).
    """

    blocks: list[float]
    laps: list[float]
    warmup_seconds: float
    warmup_blocks: int
    settled: bool
    host_ratio: float = 1.0

    @property
    def note(self) -> str | None:
        """Why the timing is to be read with care; None where all is well."""
        if not self.settled:
            return NEVER_SETTLED
        return CLOCKS_DIFFER if abs(self.host_ratio - 1) > CLOCKS_AGREE else None


def settled_at(blocks: Sequence[float], relative: float = RELATIVE) -> int | None:
    """How many blocks the warm-up took: it ends with the first three in a row that lie within ``relative`` of their median.

    None where no three do.
    """
    for end in range(AGREEING, len(blocks) + 1):
        last = blocks[end - AGREEING : end]
        if max(last) - min(last) <= relative * statistics.median(last):
            return end
    return None


def time_blocks(
    work: Callable[[], object],
    device: torch.device,
    *,
    relative: float = RELATIVE,
    warmup_cap: float = 1.0,
    cap_seconds: float = 3.0,
    block_seconds: float = BLOCK_SECONDS,
    earlier: Sequence[float] = (),
) -> Timing:
    """Time ``work``: warm-up blocks until the last three agree, then blocks until the 95 % interval of their median is within
    ``relative`` of it.

    warmup_cap, cap_seconds: seconds after which the warm-up and the measurement end regardless (at least two blocks are
    measured). A warmup_cap of 0 says that the work is warm already. earlier: seconds of calls that were timed before, in order; of
    slow work, whose blocks are single calls, they are the first blocks, so that nothing is paid for twice.
    """
    with quiet_garbage():
        calls = list(earlier) or _first_calls(work, device, warmup_cap)
        began = time.perf_counter()
        usual = statistics.median(earlier) if earlier else calls[-1]
        laps_a_block = max(1, min(1000, math.ceil(block_seconds / max(usual, 1e-9))))
        warm: list[float] = [] if laps_a_block > 1 else calls
        while settled_at(warm, relative) is None and time.perf_counter() - began < warmup_cap:
            warm.append(statistics.median(_block(work, device, laps_a_block)[0]))
        warmup_seconds = time.perf_counter() - began
        blocks = _after_the_warm_up(warm, relative) if earlier and laps_a_block == 1 else []
        laps = list(blocks)
        host, shared = 0.0, len(laps)
        began = time.perf_counter()
        while len(blocks) < 2 or (not is_tight(blocks, relative) and time.perf_counter() - began < cap_seconds):
            found, on_host = _block(work, device, laps_a_block)
            blocks.append(statistics.median(found))
            laps += found
            host += on_host
    settled = warmup_cap <= 0 or settled_at(warm, relative) is not None
    ratio = host / max(sum(laps[shared:]), 1e-12) if len(laps) > shared else 1.0
    return Timing(blocks, laps, warmup_seconds, len(warm) - shared, settled, ratio)


def _first_calls(work: Callable[[], object], device: torch.device, cap: float) -> list[float]:
    """Seconds of single calls until two in a row agree within a factor of two: the last one says how long a block is. The first calls
    compile and choose kernels, and may be many times slower. cap: seconds after the first call; 0: the work is warm."""
    calls = [_block(work, device, 1)[0][0]]
    began = time.perf_counter()
    while cap > 0 and time.perf_counter() - began <= cap:
        calls.append(_block(work, device, 1)[0][0])
        if 0.5 * calls[-2] <= calls[-1] <= 2 * calls[-2]:
            break
    return calls


def joined(*notes: str | None) -> str | None:
    """Several warnings as one; None where there is none."""
    return "; ".join(dict.fromkeys(note for note in notes if note)) or None


def _after_the_warm_up(blocks: Sequence[float], relative: float) -> list[float]:
    """The blocks after the first three that agree; where none do, those after the first quarter."""
    settled = settled_at(blocks, relative)
    return list(blocks[len(blocks) // 4 if settled is None else settled :])


def _block(work: Callable[[], object], device: torch.device, laps: int) -> tuple[list[float], float]:
    """(seconds of each lap by the device's clock, seconds of all of them by the host's). One synchronisation at the end."""
    marks = Marks(device)
    synchronise(device)
    began = time.perf_counter()
    marks.mark()
    for _ in range(laps):
        work()
        marks.mark()
    found = marks.seconds()
    return found, time.perf_counter() - began


def is_tight(blocks: Sequence[float], relative: float = RELATIVE) -> bool:
    """Is the 95 % interval of the median within ``relative`` of it on either side? Never with fewer than six blocks."""
    if len(blocks) < MINIMUM_BLOCKS:
        return False
    middle = median_interval(blocks)
    if middle.low is None or middle.high is None:
        return False
    return max(middle.high - middle.value, middle.value - middle.low) <= relative * middle.value


def rate(
    name: str,
    blocks: Sequence[float],
    items: float,
    *,
    unit: str = "images/s",
    relative: float = RELATIVE,
    note: str | None = None,
) -> Measurement:
    """Items per second from blocks in which ``items`` took so many seconds: the median's rate, with the order-statistic interval.

    A rate whose interval is wider than ``relative`` carries the note ``noisy``; with too few blocks for an interval (n < 6)
    there is none and the note says so. note: of what else the reader must be wary.
    """
    if len(blocks) == 0:
        raise ValueError(f"measurement '{name}' needs at least one block")
    middle = median_interval(blocks)
    value = items / max(middle.value, 1e-12)
    if middle.low is None or middle.high is None:
        return Measurement(
            value,
            name=name,
            n=len(blocks),
            unit=unit,
            direction="higher",
            note=joined(note, "too few laps for an interval"),
        )
    return Measurement(
        value,
        name=name,
        low=items / max(middle.high, 1e-12),
        high=items / max(middle.low, 1e-12),
        n=len(blocks),
        unit=unit,
        direction="higher",
        interval=middle.method,
        note=joined(note, None if is_tight(blocks, relative) else NOISY),
    )
