"""The state of a running trial: what its stages have measured so far, and the record that is made of it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from bench import costs, provenance
from bench.curves import CurveScorer
from bench.data.base import Data
from bench.measure import machine
from bench.measure.cores import pinned
from bench.measure.flops import FlopCount
from bench.plan import Trial
from bench.prices import Price, price_of
from bench.record import CurvePoint, Measurement, MeasurementFields, Record, fields_of

CHECKPOINT, CURVE_SAMPLES = "checkpoint.pt", "curves"
Emit = Callable[[dict[str, Any]], None]


class State:
    """One running trial; the stages in this package read and fill it."""

    def __init__(self, trial: Trial, out: Path, emit: Emit) -> None:
        self.trial, self.out, self.emit = trial, out, emit
        self.device = torch.device(trial.device)
        if self.device.index is not None:
            torch.cuda.set_device(self.device)  # for models that name no device: "cuda" is then this one
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.seconds: dict[str, float] = {}
        self.costs: list[Measurement] = []
        self.quality: list[MeasurementFields] = []
        self.scoring_seconds: dict[str, float] = {}
        self.training: dict[str, Any] = {}
        self.artifacts: dict[str, str] = {}
        self.curves: dict[str, list[CurvePoint]] = {}
        self.watched: dict[str, Any] = {"threads": machine.threads()}
        self.autocast: torch.dtype | None = None
        self.idle_watts: float | None = None
        self.environment, self.machine = provenance.environment(trial.device)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and tell the display."""
        self.phase(name)
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = perf_counter() - began

    def phase(self, name: str) -> None:
        self.emit({"event": "phase", "phase": name})

    def images(self, done: int, total: int) -> None:
        """Of the present phase."""
        self.emit({"event": "images", "done": done, "total": total})

    @contextlib.contextmanager
    def on_few_cores(self) -> Iterator[None]:
        """Whatever is timed inside stays on as many cores as it has threads; one more on CUDA, whose backward pass has its own."""
        if self.trial.role != "trained":
            yield
            return
        count = torch.get_num_threads() + (self.device.type == "cuda")
        with pinned(count) as cores:
            self.watched["threads"] = {**machine.threads(), "pinned": cores is not None and len(cores) <= count}
            yield

    def curve_scorer(self, data: Data) -> CurveScorer:
        seed, folder = sampling_seed(self.trial.seed), self.out / CURVE_SAMPLES
        return CurveScorer(self.trial, data, seed, self.protocol(), self.phase, folder)

    def counted(self, phase: str, count: Callable[[], tuple[FlopCount, float]]) -> None:
        """Take the FLOPs of a phase into the record. A model that cannot be copied or counted is not the worse for it."""
        counts = self.training.setdefault("flops", {})
        try:
            found, per_image = count()
        except Exception as error:
            counts[phase] = f"not counted: {type(error).__name__}: {error}".splitlines()[0][:200]
            return
        counts[phase] = found.to_dict()
        self.costs += costs.flop_costs(phase, found, per_image)

    @property
    def precision_file(self) -> Path:
        """Where the precision is kept that all seeds of this trial are trained in on this machine: beside the folders of the trials."""
        of_any_seed = self.trial.model_copy(update={"seed": 0}).id
        return self.out.parent / f"precision-{provenance.short_hash([of_any_seed, self.protocol()])}.txt"

    @property
    def price(self) -> Price | None:
        """What an hour of the device costs that the trial runs on, where the config says so."""
        hardware = self.machine["hardware"]
        return price_of(self.trial.prices, hardware.get("gpu") or hardware["cpu"])

    def protocol(self) -> str:
        """What must agree before two costs may stand in one column."""
        trial = self.trial
        return provenance.short_hash(
            [
                trial.data_digest,
                trial.budget_unit,
                trial.budget_amount,
                trial.batch_size,
                trial.sample_batch,
                self.environment,
            ]
        )

    def record(self, status: Any, reason: str | None = None) -> Record:
        described, protocol, price = self.trial.described(), self.protocol(), self.price
        described["config"]["price"] = None if price is None else price.model_dump(mode="json")
        return Record(
            **described,
            status=status,
            reason=reason,
            started=self.started,
            measurements=[fields_of(cost, "cost", protocol) for cost in self.costs] + self.quality,
            training=self.training,
            curves=self.curves,
            seconds={k: round(v, 4) for k, v in self.seconds.items()},
            artifacts=self.artifacts,
            environment=self.environment,
            provenance={
                **self.machine,
                "machine": self.watched,
                "git": provenance.git_state(),
                "metric_seconds": self.scoring_seconds,
            },
        )


def sampling_seed(training_seed: int) -> int:
    """The seed of the sample set; its stream is apart from the training streams of all small seeds."""
    return 1_000_003 * (training_seed + 1)
