"""What a suite may ask for beside one number: quality along training, speed by batch size, quality by number of steps.

All of it happens off the training clock, on copies of the model.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.costs import exact
from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.features.cache import FeatureCache
from bench.measure import machine
from bench.measure.blocks import joined, rate, time_blocks
from bench.measure.flops import count
from bench.measure.latency import percentiles
from bench.model import FitsPrior, GenerativeModel, Iterative
from bench.plan import Part, Trial
from bench.record import CurvePoint, Measurement, MeasurementFields, fields_of
from bench.sampling import draw, draw_batch
from bench.scoring import gather, score
from bench.store import write_atomically
from bench.suite import CURVE_METRICS
from bench.training.batches import Batches, OnePass
from bench.training.ema import WeightAverage
from bench.training.randomness import untouched_randomness

TRAINING, BATCH, NFE = "training", "batch", "nfe"
Phase = Callable[[str], None]

OUTDATED = "its metric changed and its sample set is not on this machine; train again to score it anew"


def checkpoint_shares(checkpoints: int) -> list[float]:
    """Shares of the budget, each twice the one before, up to a half; the finished model is the last point of the curve."""
    return [2.0**-power for power in range(checkpoints, 0, -1)]


@dataclasses.dataclass
class CurveScorer:
    """Samples and scores a model at one point of a curve, as the finished model is: same seeds, same number of samples.

    folder: where the sample sets are kept, so that a changed metric is scored again without training.
    """

    trial: Trial
    data: Data
    seed: int
    protocol: str
    on_phase: Phase
    folder: Path

    def quality(self, model: GenerativeModel, place: str, **options: Any) -> list[MeasurementFields]:
        """Distances of a fresh sample set, which is kept under ``place``. TrialFailure where nothing that can be scored is generated."""
        trial = self.trial
        samples, _ = draw(model, trial.samples, self.seed, min(trial.sample_batch, trial.samples), **options)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, samples=samples)
        write_atomically(self.folder / f"{place}.npz", buffer.getvalue())
        return self._scored(model, samples, trial.metrics)

    def _scored(self, model: GenerativeModel, samples: np.ndarray, metrics: Sequence[Part]) -> list[MeasurementFields]:
        evidence = gather(self.trial, self.data, samples, model, FeatureCache())
        chosen = [part for part in metrics if part.name in CURVE_METRICS]
        found, _, errors = score(self.trial, chosen, evidence)
        if errors:
            raise TrialFailure("failed", "; ".join(errors))
        return found

    def rescored(
        self, curves: Mapping[str, list[CurvePoint]], model: GenerativeModel, stale: Sequence[Part]
    ) -> dict[str, list[CurvePoint]]:
        """The curves with the measurements of ``stale`` metrics made anew from the sample sets that were kept."""
        if not any(part.name in CURVE_METRICS for part in stale):
            return dict(curves)
        return {
            name: [self._point_rescored(name, point, model, stale) for point in points]
            for name, points in curves.items()
        }

    def _point_rescored(
        self, curve: str, point: CurvePoint, model: GenerativeModel, stale: Sequence[Part]
    ) -> CurvePoint:
        names = {part.name for part in stale}
        kept = [fields for fields in point.measurements if fields.source not in names]
        if curve == BATCH or (point.failure is not None and point.failure != OUTDATED):
            return point
        self.on_phase(f"scoring the curve '{curve}' again")
        try:
            with np.load(self.folder / f"{place_of(curve, point.at)}.npz", allow_pickle=False) as archive:
                samples = archive["samples"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return point.model_copy(update={"measurements": kept, "failure": OUTDATED})
        try:
            found = self._scored(model, samples, stale)
        except (TrialFailure, BenchError, ValueError) as failure:
            return point.model_copy(update={"measurements": kept, "failure": str(failure).splitlines()[0]})
        return point.model_copy(update={"measurements": [*found, *kept], "failure": None})

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
            try:
                snapshot = copy.deepcopy(model).eval()
                if average is not None:
                    average.apply_to(snapshot)
                if isinstance(snapshot, FitsPrior):
                    began = time.perf_counter()
                    with torch.no_grad():
                        snapshot.fit_prior(OnePass(batches))
                    at["seconds"] += time.perf_counter() - began
                return CurvePoint(at=at, measurements=self.quality(snapshot, place_of(TRAINING, at)))
            except Exception as failure:
                return CurvePoint(at=at, measurements=[], failure=_reason(failure))

    def batch_curve(self, model: GenerativeModel) -> list[CurvePoint]:
        """Sampling speed and latency at each batch size of the suite; one that does not fit into memory or that the model refuses ends as a
        failure."""
        points = []
        for batch in sorted(self.trial.batch_sweep):
            self.on_phase(f"timing batches of {batch}")
            watch = machine.Watch(model.device)
            try:
                with torch.inference_mode():
                    timing = time_blocks(
                        lambda size=batch: draw_batch(model, size, self.seed),  # type: ignore[misc]
                        model.device,
                        warmup_cap=0.5,
                        cap_seconds=1.5,
                    )
            except Exception as failure:  # whatever a model raises: one size costs nobody a finished training
                points.append(CurvePoint(at={"batch": batch}, measurements=[], failure=_reason(failure)))
                _free(model.device)
                continue
            note = joined(machine.warning(watch.stop()), timing.note)
            found = [
                rate("sampling_throughput", timing.blocks, batch, note=note),
                *percentiles("sampling_latency", timing.laps, note=note),
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
            except Exception as failure:
                points.append(CurvePoint(at=at, measurements=[], failure=_reason(failure)))
                _free(model.device)
        return points

    def _at_steps(self, model: Any, steps: int, at: dict[str, float]) -> CurvePoint:
        batch, watch = min(self.trial.sample_batch, self.trial.samples), machine.Watch(model.device)
        with torch.inference_mode():
            with configured_for(model, steps):
                flops = count(lambda: draw_batch(model, 1, self.seed, steps=steps))
                at["nfe"] = float(
                    model.nfe
                )  # after drawing: a solver that chooses its own evaluations knows them only then
            timing = time_blocks(
                lambda: draw_batch(model, batch, self.seed, steps=steps), model.device, warmup_cap=0.3, cap_seconds=1.0
            )
        note = joined(machine.warning(watch.stop()), timing.note)
        quality = self.quality(model, place_of(NFE, at), steps=steps)
        costs = [
            rate("sampling_throughput", timing.blocks, batch, note=note),
            exact("sampling_flops_per_image", flops.flops, unit="FLOP/image", note=flops.note),
        ]
        return CurvePoint(at=at, measurements=[*quality, *(self.cost(cost) for cost in costs)])


def _reason(failure: Exception) -> str:
    return (str(failure) or type(failure).__name__).splitlines()[0][:200]


def _free(device: torch.device) -> None:
    """Give back what a failed attempt left in the allocator, for the next one."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def place_of(curve: str, at: Mapping[str, float]) -> str:
    """Name of the sample set of a curve's point: by the share of the budget, or by the number of steps."""
    return f"{curve}-{at['share' if curve == TRAINING else 'steps']:g}"


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


@contextmanager
def configured_for(model: Any, steps: int) -> Iterator[None]:
    """The model's config says ``steps`` inside, so that its ``nfe`` is that of so many. Raises what its Config says of the number."""
    config = model.config
    try:
        model.config = dataclasses.replace(config, steps=steps)
        yield
    finally:
        model.config = config
