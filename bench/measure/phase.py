"""All meters of one phase of a trial together: other work on the machine, energy, peak memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from bench.measure import machine
from bench.measure.energy import EnergyMeter, energy_measurements
from bench.measure.memory import PeakMemory, mebibytes
from bench.record import Measurement

RESUMED = "not measured: the training was resumed from a checkpoint"
UNTIL_CHECKPOINT = "until the first checkpoint"
AFTER_CHECKPOINTS = "of a process that scored checkpoints before"


class PhaseMeters:
    """Runs from its making until ``stop()``. phase: ``training`` or ``sampling``. after_checkpoints: models were scored in this process
    before, which on a CPU leaves memory with it."""

    def __init__(self, device: torch.device, phase: str, after_checkpoints: bool = False) -> None:
        self.phase = phase
        self.seen: dict[str, Any] = {}
        self._memory: list[Measurement] = []
        self._cuda = device.type == "cuda"
        self._until: float | None = None
        self._note = AFTER_CHECKPOINTS if after_checkpoints and not self._cuda else None
        self._resumed = False
        self._peak, self._energy, self._watch = PeakMemory(device), EnergyMeter(device), machine.Watch(device)
        self._reading: tuple[float, float] | None = None
        self._energy.start()

    @contextlib.contextmanager
    def checkpoint(self) -> Iterator[None]:
        """A checkpoint is scored inside, whose memory and energy are not the phase's. A process on a CPU keeps memory of it: there the
        peak counts until the first."""
        self._energy.pause()
        if self._until is None and not self._cuda:
            self._until = self._peak.peak_mib()
        with self._peak.aside():
            yield
        self._energy.resume()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A short look at the model, whose memory is not the phase's."""
        return self._peak.aside()

    def resume(self) -> None:
        """The phase began in an earlier process, whose energy nobody knows here."""
        self._resumed = True

    def stop(self) -> None:
        """The phase has ended."""
        self._reading, self.seen = self._energy.stop(), self._watch.stop()
        name = f"peak_memory_{self.phase}"
        if self._until is None:
            self._memory = self._peak.measurements(name, self._note)
        else:
            self._memory = [mebibytes(name, self._until, UNTIL_CHECKPOINT)]

    @property
    def energy_source(self) -> str:
        """What measured the energy, or why nothing did."""
        return RESUMED if self._resumed else self._energy.why_not() or str(self._energy.source)

    @property
    def memory(self) -> list[Measurement]:
        return self._memory

    def energy(self, images: float, idle_watts: float | None) -> list[Measurement]:
        """images: seen or made in the phase."""
        return [] if self._resumed else energy_measurements(self.phase, self._reading, images, idle_watts)

    @property
    def warning(self) -> str | None:
        """What a reader of the phase's speed must know of the machine."""
        return machine.warning(self.seen)
