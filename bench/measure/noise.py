"""A/A: how much a machine differs from itself. The same work is measured as if it were two versions, in mixed order.

What comes out is the noise that any comparison on this machine must beat, and a test of our own intervals: those of A and B, which
are one and the same, must overlap.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench import provenance
from bench.errors import BenchError
from bench.measure.blocks import time_blocks
from bench.measure.clock import Marks, quiet_garbage, synchronise
from bench.measure.cores import pinned
from bench.measure.probe import Probe
from bench.stats.gate import noise_margin
from bench.stats.intervals import Estimate, median_interval, wilson_interval
from bench.store import write_atomically

FILE = "noise.json"
BLOCKS = 10
"""Blocks of A and of B in a pair: their medians give each side's interval."""

REQUIRED_OVERLAP = 0.93


@dataclasses.dataclass(frozen=True)
class Noise:
    """How much this machine differs from itself.

    differences: log(median B / median A) of each pair. overlaps: pairs whose 95 % intervals overlap. lap_seconds: of the work.
    """

    device: str
    environment: str
    date: str
    blocks: int
    lap_seconds: float
    differences: list[float]
    overlaps: int

    @property
    def pairs(self) -> int:
        return len(self.differences)

    @property
    def spread(self) -> float:
        """Robust standard deviation of the differences, 1.4826 times the median absolute value: 0.01 is one percent."""
        return 1.4826 * float(np.median(np.abs(self.differences)))

    @property
    def typical(self) -> float:
        """The relative difference that half of the pairs stay below."""
        return math.expm1(float(np.median(np.abs(self.differences))))

    @property
    def largest(self) -> float:
        """The largest relative difference of a pair."""
        return math.expm1(float(np.abs(self.differences).max()))

    @property
    def margin(self) -> float:
        """The change of speed that comparisons take as none where nobody gives a margin: see bench.stats.gate.noise_margin."""
        return noise_margin(self.differences)

    @property
    def overlap(self) -> Estimate:
        """Share of pairs whose intervals overlap, with its Wilson interval."""
        return wilson_interval(self.overlaps, self.pairs)


def measure_noise(
    device: torch.device,
    pairs: int = 100,
    *,
    work: Callable[[], object] | None = None,
    blocks: int = BLOCKS,
    block_seconds: float = 0.01,
    on_pair: Callable[[int], None] = lambda done: None,
    seed: int = 0,
) -> Noise:
    """Measure ``pairs`` pairs of A and B, each ``blocks`` blocks in random order, pinned as trials are. work: the probe by default."""
    if pairs < 2:
        raise BenchError(f"an A/A measurement needs at least 2 pairs, got {pairs}")
    work = work or Probe(device)
    order = random.Random(seed)
    differences, overlaps = [], 0
    with pinned(torch.get_num_threads()), quiet_garbage():
        warm = time_blocks(work, device, cap_seconds=0.2)
        laps = max(1, round(block_seconds / statistics.median(warm.laps)))
        for done in range(pairs):
            sides: dict[str, list[float]] = {"A": [], "B": []}
            for side in order.sample("AB" * blocks, 2 * blocks):
                sides[side].append(_block(work, device, laps))
            a, b = median_interval(sides["A"]), median_interval(sides["B"])
            differences.append(math.log(b.value / a.value))
            if a.bounds and b.bounds:
                overlaps += a.bounds[0] <= b.bounds[1] and b.bounds[0] <= a.bounds[1]
            on_pair(done + 1)
    environment, _ = provenance.environment(str(device))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Noise(
        str(device), environment, now, blocks, statistics.median(warm.laps), differences, overlaps
    )  # fmt: skip


def _block(work: Callable[[], object], device: torch.device, laps: int) -> float:
    """Mean seconds of a lap."""
    marks = Marks(device)
    synchronise(device)
    marks.mark()
    for _ in range(laps):
        work()
    marks.mark()
    return marks.seconds()[0] / laps


def save_noise(noise: Noise, results: Path) -> Path:
    """Write ``results/noise.json``: one entry a machine and device, so that measuring again replaces it."""
    path = results / FILE
    entries = [
        entry for entry in load_noise(results) if (entry.environment, entry.device) != (noise.environment, noise.device)
    ]
    content = [dataclasses.asdict(entry) for entry in (*entries, noise)]
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def load_noise(results: Path) -> list[Noise]:
    """What `bench noise` measured, one entry a machine and device; empty where it never ran."""
    path = results / FILE
    if not path.is_file():
        return []
    try:
        return [Noise(**entry) for entry in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise BenchError(f"cannot read '{path}': {error}; delete it and run `bench noise` again") from None
