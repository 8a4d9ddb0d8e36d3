"""All meters of one phase of a trial together: other work on the machine, energy, peak memory."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from bench.measure import machine
from bench.measure.energy import EnergyMeter, energy_measurements
from bench.measure.memory import PeakMemory, mebibytes
from bench.record import Measurement

INTERRUPTED = "not measured: checkpoints were scored in between"

RESUMED = "not measured: the training was resumed from a checkpoint"


class PhaseMeters:
    """Runs from its making until ``stop()``. phase: ``training`` or ``sampling``."""

    def __init__(self, device: torch.device, phase: str) -> None:
        self.phase = phase
        self.seen: dict[str, Any] = {}
        self._memory: list[Measurement] = []
        self._interrupted_at: float | None = None
        self._resumed = False
        self._peak, self._energy, self._watch = PeakMemory(device), EnergyMeter(device), machine.Watch(device)
        self._reading: tuple[float, float] | None = None
        self._energy.start()

    def interrupt(self) -> None:
        """Something else happens now that takes memory and energy: the peak counts until here, energy not at all."""
        if self._interrupted_at is None:
            self._interrupted_at = self._peak.peak_mib()

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
        if self._interrupted_at is None:
            self._memory = self._peak.measurements(name)
        else:
            self._memory = [mebibytes(name, self._interrupted_at, "until the first checkpoint")]

    @property
    def energy_source(self) -> str:
        """What measured the energy, or why nothing did."""
        if self._interrupted_at is not None:
            return INTERRUPTED
        if self._resumed:
            return RESUMED
        return self._energy.why_not() or str(self._energy.source)

    @property
    def memory(self) -> list[Measurement]:
        return self._memory

    def energy(self, images: float, idle_watts: float | None) -> list[Measurement]:
        """images: seen or made in the phase."""
        if self._interrupted_at is not None or self._resumed:
            return []
        return energy_measurements(self.phase, self._reading, images, idle_watts)

    @property
    def warning(self) -> str | None:
        """What a reader of the phase's speed must know of the machine."""
        return machine.warning(self.seen)
