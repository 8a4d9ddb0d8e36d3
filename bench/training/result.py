"""What a training leaves behind: its clock, its memory and its losses."""

from __future__ import annotations

import dataclasses

import numpy as np

from bench.measure.blocks import AGREEING, settled_at


@dataclasses.dataclass
class TrainingResult:
    """What training spent and how it went.

    block_seconds, block_steps: wall seconds and steps of each block after the first steps; a block ends with a synchronisation.
    lap_seconds, data_seconds: of each of these steps, by the device's clock, and how much of it went into fetching the batch.
    first_step_seconds: of the very first step, in which kernels are compiled and chosen.
    growth_mib: by how much the memory held grew from the end of the first steps to the end of training.
    losses: name -> mean of each block, in order.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    flops_per_step: float | None = None
    block_seconds: list[float] = dataclasses.field(default_factory=list)
    block_steps: list[int] = dataclasses.field(default_factory=list)
    lap_seconds: list[float] = dataclasses.field(default_factory=list)
    data_seconds: list[float] = dataclasses.field(default_factory=list)
    first_step_seconds: float = 0.0
    growth_mib: float | None = None
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def step_seconds(self) -> list[float]:
        """Mean seconds of a step in each block after the warm-up."""
        return self._all_step_seconds()[self._unsettled_blocks() :]

    def laps(self) -> tuple[list[float], list[float]]:
        """(seconds of each step, seconds of its batch) after the warm-up."""
        skipped = sum(self.block_steps[: self._unsettled_blocks()])
        return self.lap_seconds[skipped:], self.data_seconds[skipped:]

    def settled_seconds(self) -> float:
        """Seconds until the speed stood still: the first steps and the blocks before three in a row agree."""
        return self.warmup_seconds + sum(self.block_seconds[: self._unsettled_blocks()])

    def _all_step_seconds(self) -> list[float]:
        return [seconds / steps for seconds, steps in zip(self.block_seconds, self.block_steps)]

    def _unsettled_blocks(self) -> int:
        """Blocks before the first three that agree; a quarter of all at most, and where no three do."""
        settled, quarter = settled_at(self._all_step_seconds()), len(self.block_seconds) // 4
        return quarter if settled is None else min(settled - AGREEING, quarter)


def final_losses(result: TrainingResult, share: float = 0.1) -> dict[str, np.ndarray]:
    """The block means of the last ``share`` of training, by loss name."""
    return {name: np.asarray(values[-max(1, round(len(values) * share)) :]) for name, values in result.losses.items()}
