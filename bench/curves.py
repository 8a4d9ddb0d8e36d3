"""What a suite may ask for beside one number: quality along training, speed by batch size, quality by number of steps.

All of it happens off the training clock, on copies of the model.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bench.costs import exact
from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.features.cache import FeatureCache
from bench.measure.blocks import rate, time_blocks
from bench.measure.flops import count
from bench.measure.latency import percentiles
from bench.model import FitsPrior, GenerativeModel, Iterative
from bench.plan import Part, Trial
from bench.record import CurvePoint, Measurement, MeasurementFields, fields_of
from bench.sampling import draw, draw_batch
from bench.scoring import gather, score
from bench.suite import CURVE_METRICS
from bench.training.ema import WeightAverage
from bench.training.loop import Batches, OnePass

TRAINING, BATCH, NFE = "training", "batch", "nfe"
Phase = Callable[[str], None]


def checkpoint_shares(checkpoints: int) -> list[float]:
    """Shares of the budget, each twice the one before, up to a half; the finished model is the last point of the curve."""
    return [2.0**-power for power in range(checkpoints, 0, -1)]


@dataclasses.dataclass
class CurveScorer:
    """Samples and scores a model at one point of a curve, as the finished model is: same seeds, same number of samples."""

    trial: Trial
    data: Data
    seed: int
    protocol: str
    on_phase: Phase

    def metrics(self) -> list[Part]:
        return [part for part in self.trial.metrics if part.name in CURVE_METRICS]

    def quality(self, model: GenerativeModel, **options: Any) -> list[MeasurementFields]:
        """Distances of a fresh sample set. TrialFailure where the model generates nothing that can be scored."""
        trial = self.trial
        samples, _ = draw(model, trial.samples, self.seed, min(trial.sample_batch, trial.samples), **options)
        evidence, bank = gather(trial, self.data, samples, model, FeatureCache())
        found, _, errors = score(trial, self.metrics(), evidence, bank.version)
        if errors:
            raise TrialFailure("failed", "; ".join(errors))
        return found

    def cost(self, measurement: Measurement) -> MeasurementFields:
        return fields_of(measurement, "cost", self.protocol)

    def checkpoint(
        self, model: GenerativeModel, average: WeightAverage | None, batches: Batches, at: dict[str, float]
    ) -> CurvePoint:
        """The quality that training would have had if it had ended here: averaged weights, prior fitted.

        at: share of the budget, seconds, images and steps of training; the seconds of fitting the prior are added.
        """
        self.on_phase(f"scoring the model after {at['seconds']:.1f} s of training")
        at = dict(at)
        with untouched_randomness(model.device):
            snapshot = copy.deepcopy(model).eval()
            if average is not None:
                average.apply_to(snapshot)
            try:
                if isinstance(snapshot, FitsPrior):
                    began = time.perf_counter()
                    with torch.no_grad():
                        snapshot.fit_prior(OnePass(batches))
                    at["seconds"] += time.perf_counter() - began
                return CurvePoint(at=at, measurements=self.quality(snapshot))
            except (TrialFailure, BenchError, ValueError) as failure:
                return CurvePoint(at=at, measurements=[], failure=str(failure).splitlines()[0])

    def batch_curve(self, model: GenerativeModel) -> list[CurvePoint]:
        """Sampling speed and latency at each batch size of the suite; a size that does not fit into memory ends as a failure."""
        points = []
        for batch in sorted(self.trial.batch_sweep):
            self.on_phase(f"timing batches of {batch}")
            try:
                with torch.inference_mode():
                    timing = time_blocks(
                        lambda size=batch: draw_batch(model, size, self.seed),  # type: ignore[misc]
                        model.device,
                        warmup_cap=0.5,
                        cap_seconds=1.5,
                    )
            except (RuntimeError, MemoryError) as failure:
                points.append(
                    CurvePoint(at={"batch": batch}, measurements=[], failure=str(failure).splitlines()[0][:200])
                )
                continue
            found = [
                rate("sampling_throughput", timing.blocks, batch, note=timing.note),
                *percentiles("sampling_latency", timing.laps, note=timing.note),
            ]
            points.append(CurvePoint(at={"batch": batch}, measurements=[self.cost(m) for m in found]))
        return points

    def nfe_curve(self, model: GenerativeModel) -> list[CurvePoint]:
        """Quality, speed and FLOPs at each number of steps; empty where the model's sampling takes no ``steps``."""
        if not (isinstance(model, Iterative) and hasattr(model.config, "steps")):
            return []
        points = []
        for steps in sorted(self.trial.nfe_sweep):
            self.on_phase(f"sampling in {steps} steps")
            at = {"steps": float(steps)}
            try:
                points.append(self._at_steps(model, steps, at))
            except (TrialFailure, BenchError, ValueError, RuntimeError) as failure:
                points.append(CurvePoint(at=at, measurements=[], failure=str(failure).splitlines()[0][:200]))
        return points

    def _at_steps(self, model: GenerativeModel, steps: int, at: dict[str, float]) -> CurvePoint:
        batch = min(self.trial.sample_batch, self.trial.samples)
        with torch.inference_mode():
            at["nfe"] = float(evaluations(model, lambda: draw_batch(model, 1, self.seed, steps=steps)))
            flops = count(lambda: draw_batch(model, 1, self.seed, steps=steps))
            timing = time_blocks(
                lambda: draw_batch(model, batch, self.seed, steps=steps), model.device, warmup_cap=0.3, cap_seconds=1.0
            )
        quality = self.quality(model, steps=steps)
        costs = [
            rate("sampling_throughput", timing.blocks, batch, note=timing.note),
            exact("sampling_flops_per_image", flops.flops, unit="FLOP/image", note=flops.note),
        ]
        return CurvePoint(at=at, measurements=[*quality, *(self.cost(cost) for cost in costs)])


def best_batch(points: list[CurvePoint]) -> Measurement | None:
    """The batch size with the highest throughput. A tie within the intervals is said in the note."""
    speeds = {
        int(point.at["batch"]): m for point in points for m in point.measurements if m.name == "sampling_throughput"
    }
    if not speeds:
        return None
    best = max(speeds, key=lambda batch: speeds[batch].value or 0.0)
    low = speeds[best].low
    ties = [b for b, m in speeds.items() if b != best and low is not None and m.high is not None and m.high >= low]
    note = f"within noise of batch {', '.join(map(str, sorted(ties)))}" if ties else None
    return exact("best_sample_batch", best, direction="none", note=note)


def evaluations(model: GenerativeModel, work: Callable[[], object]) -> int:
    """How often ``work`` evaluates the network: the calls of the direct submodule that holds most parameters."""
    children = [(sum(p.numel() for p in child.parameters()), child) for child in model.children()]
    if not children:
        raise BenchError(f"{type(model).__name__} has no submodule whose evaluations could be counted")
    calls = 0

    def called(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = max(children, key=lambda pair: pair[0])[1].register_forward_pre_hook(called)
    try:
        work()
    finally:
        handle.remove()
    return calls


@contextmanager
def untouched_randomness(device: torch.device) -> Iterator[None]:
    """Whatever draws random numbers inside, training goes on with the ones it would have had."""
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
