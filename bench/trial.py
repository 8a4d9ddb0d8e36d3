"""One trial from start to finish: data -> model -> train -> sample -> measure -> score -> record."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import safetensors.torch
import torch

from bench import costs, plan, provenance, registry
from bench.costs import exact
from bench.curves import BATCH, NFE, TRAINING, CurveScorer, best_batch, checkpoint_shares
from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.features.cache import FeatureCache
from bench.measure import machine
from bench.measure.blocks import time_blocks
from bench.measure.clock import time_once
from bench.measure.cores import pinned
from bench.measure.energy import EnergyMeter
from bench.measure.flops import FlopCount
from bench.measure.phase import PhaseMeters
from bench.model import FitsPrior, GenerativeModel, Iterative, capabilities
from bench.model_file import DESCRIPTION, description_of
from bench.plan import Trial
from bench.record import CurvePoint, Measurement, MeasurementFields, Record, fields_of
from bench.sampling import draw, draw_batch
from bench.scoring import gather, score
from bench.store import write_atomically
from bench.training import precision
from bench.training.compilation import compile_networks, compile_seconds, eager
from bench.training.diagnostics import Diagnostics
from bench.training.ema import WeightAverage
from bench.training.loop import Batches, OnePass, TrainingResult, train
from bench.training.resume import Checkpoints

RECORD, SAMPLES, WEIGHTS = "record.json", "samples.npz", "weights.safetensors"
CHECKPOINT, CURVE_SAMPLES = "checkpoint.pt", "curves"
Emit = Callable[[dict[str, Any]], None]


def run_trial(trial: Trial, out: Path, emit: Emit = lambda event: None) -> Record:
    """Run ``trial`` into the folder ``out``; what is already there is not done again.

    A finished trial returns its record; one whose metrics changed is scored again from its sample set; everything else
    trains. The record is written to ``out`` last, atomically, so a half-run trial leaves none.
    """
    out.mkdir(parents=True, exist_ok=True)
    old = read_record(out, trial.id)
    if old is not None and (old.scoring == trial.scoring or old.status != "complete"):
        return old
    run = _Run(trial, out, emit)
    try:
        record = run.rescored(old) if old is not None else run.fresh()
    except TrialFailure as failure:
        record = run.record(failure.status, str(failure))
    except BenchError as error:
        record = run.record("failed", str(error))
    except Exception as error:
        (out / "traceback.txt").write_text(traceback.format_exc())
        status = "out-of-memory" if _is_out_of_memory(error) else "failed"
        record = run.record(status, f"{type(error).__name__}: {error}".splitlines()[0][:500])
    write_atomically(out / RECORD, record.to_line().encode())
    (out / CHECKPOINT).unlink(missing_ok=True)
    return record


def read_record(out: Path, trial_id: str) -> Record | None:
    """The record in ``out`` if it is of this trial and its sample set is intact; else None."""
    try:
        record = Record.model_validate_json((out / RECORD).read_text())
    except (OSError, ValueError):
        return None
    if record.trial != trial_id:
        return None
    if record.status == "complete":
        samples = out / SAMPLES
        if not samples.is_file() or provenance.file_sha256(samples) != record.artifacts.get("samples_file"):
            return None
    return record


def load_samples(out: Path) -> np.ndarray:
    """The sample set stored in a trial's folder."""
    with np.load(out / SAMPLES, allow_pickle=False) as archive:
        return archive["samples"]


class _Run:
    """The state of one running trial; each method is one stage of the flow."""

    def __init__(self, trial: Trial, out: Path, emit: Emit) -> None:
        self.trial, self.out, self.emit = trial, out, emit
        self.device = torch.device(trial.device)
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

    # --- the flow

    def fresh(self) -> Record:
        data = self.load()
        model = self.build(data)
        batches = Batches(data, self.trial.batch_size, self.trial.seed, self.device)
        curves = self.curve_scorer(data)
        with self.on_few_cores():
            self.fit(model, batches, curves)
            samples = self.sample(model)
            self.sweep(model, curves)
        self.derive()
        self.save(model, samples)
        return self.scored(data, samples, model, list(self.trial.metrics))

    def rescored(self, old: Record) -> Record:
        """Score the stored sample set with the metrics that changed; all else is kept as it was measured."""
        stale = [part for part in self.trial.metrics if old.scoring.get(part.name) != part.digest]
        fresh_names = {part.name for part in self.trial.metrics} - {part.name for part in stale}
        self.quality = [fields for fields in old.measurements if fields.source in fresh_names]
        kept = [fields for fields in old.measurements if fields.source == "cost"]
        data = self.load()
        model = self.build(data)
        if (self.out / WEIGHTS).is_file():
            model.load_state_dict(safetensors.torch.load_file(self.out / WEIGHTS), strict=False)
        else:
            self.fit_prior(model, Batches(data, self.trial.batch_size, self.trial.seed, self.device))
        self.costs.clear()  # those of the first run are kept
        self.training, self.artifacts, self.started = old.training, old.artifacts, old.started
        self.curves = self.curve_scorer(data).rescored(old.curves, model.eval(), stale)
        new = self.scored(data, load_samples(self.out), model.eval(), stale)
        return new.model_copy(
            update={
                "measurements": [*kept, *new.measurements],
                "seconds": {**old.seconds, "rescoring": self.seconds["scoring"]},
            }
        )

    def curve_scorer(self, data: Data) -> CurveScorer:
        seed, folder = sampling_seed(self.trial.seed), self.out / CURVE_SAMPLES
        return CurveScorer(self.trial, data, seed, self.protocol(), self.phase, folder)

    def scored(self, data: Data, samples: np.ndarray, model: GenerativeModel, metrics: list[plan.Part]) -> Record:
        errors = self.score(data, samples, model, metrics)
        if errors:
            return self.record("failed", "; ".join(errors))
        return self.record("complete")

    # --- the stages

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

    def load(self) -> Data:
        with self.stage("loading"):
            data = plan.load_data(self.trial.dataset_target, self.trial.dataset_options)
            if data.digest() != self.trial.data_digest:
                raise TrialFailure("failed", f"data set '{self.trial.dataset}' changed since the trial was planned")
            return data

    def build(self, data: Data) -> GenerativeModel:
        with self.stage("building"):
            torch.manual_seed(self.trial.seed)
            np.random.seed(self.trial.seed % 2**32)
            model_class = registry.load(self.trial.model_target)
            config = plan.with_classes(model_class, self.trial.model_config_, data)
            model: GenerativeModel = model_class(data.space, **config)
            return model.to(self.device)

    def fit(self, model: GenerativeModel, batches: Batches, curves: CurveScorer) -> None:
        """Train under the budget, put the averaged weights in place, fit the prior."""
        if model.trains:
            resume = self.checkpoints()
            self.choose_precision(model, batches, resume)
            self.count_training(model, batches)
            average = WeightAverage(model, self.trial.ema) if self.trial.ema else None
            if self.trial.compile:
                compile_networks(model)
            result = self.train(model, batches, average, curves, resume)
            self.training |= {
                "steps": result.steps,
                "images": result.images,
                "ema_decay": average.decay if average else None,
                "losses": {name: [float(f"{v:.5g}") for v in values] for name, values in result.losses.items()},
            }
        self.fit_prior(model, batches)
        parameters = sum(p.numel() for p in model.parameters())
        self.costs.append(exact("parameters", parameters, direction="none"))
        self.training["capabilities"] = capabilities(model)

    def checkpoints(self) -> Checkpoints | None:
        """Where the state of this training is kept, if the suite asks for it."""
        if self.trial.checkpoint_every is None:
            return None
        found = Checkpoints(self.out / CHECKPOINT, self.trial.checkpoint_every, self.trial.id)
        if found.saved is not None:
            self.training["resumed_at_step"] = found.saved["result"]["steps"]
        return found

    def choose_precision(self, model: GenerativeModel, batches: Batches, resume: Checkpoints | None) -> None:
        """By a trial on this machine; a training that goes on keeps what it began with."""
        if resume is not None and "precision" in resume.notes:
            why = resume.notes["precision"]
            self.autocast = torch.bfloat16 if why.startswith("bfloat16") else None
        else:
            self.autocast, why = precision.choose(model, batches, self.trial.precision)
        if resume is not None:
            resume.notes["precision"] = why
        self.training["precision"] = why

    def train(
        self,
        model: GenerativeModel,
        batches: Batches,
        average: WeightAverage | None,
        curves: CurveScorer,
        resume: Checkpoints | None,
    ) -> TrainingResult:
        """The training loop between the meters; checkpoints are scored off the clock."""
        points = [CurvePoint.model_validate(point) for point in resume.notes.get("curve", ())] if resume else []
        self.idle_watts = EnergyMeter(self.device).idle_watts()
        diagnostics = Diagnostics(model, batches, average)
        meters = PhaseMeters(self.device, "training")
        if "resumed_at_step" in self.training:
            meters.resume()

        def checkpoint(so_far: TrainingResult, share: float, seconds: float) -> None:
            meters.interrupt()
            at = {"share": share, "seconds": seconds, "images": float(so_far.images), "steps": float(so_far.steps)}
            points.append(curves.checkpoint(model, average, batches, at))
            if resume is not None:
                resume.notes["curve"] = [json.loads(point.model_dump_json()) for point in points]

        with self.stage("training"):
            result = train(
                model,
                batches,
                self.trial.budget_unit,
                self.trial.budget_amount,
                average=average,
                autocast=self.autocast,
                on_progress=lambda state: self.emit({"event": "progress", **state}),
                checkpoints=checkpoint_shares(self.trial.checkpoints),
                on_checkpoint=checkpoint,
                watch=diagnostics.block,
                resume=resume,
            )
            meters.stop()
            if average is not None:
                average.apply()
        self.costs += diagnostics.measurements(result)
        self.training["diagnostics"] = diagnostics.course()
        if points:
            self.curves[TRAINING] = points
        self.watched["training"], self.training["energy"] = meters.seen, meters.energy_source
        if (ratio := costs.host_clock_ratio(result)) is not None:
            self.training["host_clock_ratio"] = round(ratio, 4)
        self.costs += [*meters.memory, *meters.energy(result.images, self.idle_watts)]
        self.costs += costs.training_costs(result, batches.batch_size, bool(points), meters.warning)
        if self.trial.compile:
            self.costs.append(exact("compile_seconds", compile_seconds(result), unit="s"))
        return result

    def count_training(self, model: GenerativeModel, batches: Batches) -> None:
        with self.stage("counting"):
            self.counted("training", lambda: costs.training_flops(model, batches, self.autocast))

    def fit_prior(self, model: GenerativeModel, batches: Batches) -> None:
        model.eval()
        if isinstance(model, FitsPrior):
            with self.stage("prior"), torch.no_grad():
                model.fit_prior(OnePass(batches))
            self.costs.append(exact("prior_seconds", self.seconds["prior"], unit="s"))

    def sample(self, model: GenerativeModel) -> np.ndarray:
        """Draw the sample set and measure what sampling costs."""
        trial, seed = self.trial, sampling_seed(self.trial.seed)
        model.eval()
        with self.stage("sampling"), torch.inference_mode():
            first = time_once(lambda: draw_batch(model, 1, seed), self.device)
            self.costs.append(exact("time_to_first_sample", first, unit="s"))
            batch = min(trial.sample_batch, trial.samples)
            meters, watch = PhaseMeters(self.device, "sampling"), machine.Watch(self.device)
            samples, laps = draw(model, trial.samples, seed, batch, lambda done: self.phase(f"sampling {done}"))
            meters.stop()
            self.costs += meters.memory
            if trial.role == "trained":
                self.costs += meters.energy(trial.samples, self.idle_watts)
                self.phase("timing the sampler")
                many = time_blocks(
                    lambda: draw_batch(model, batch, seed), self.device, warmup_cap=0.3, cap_seconds=0.8, earlier=laps
                )
                single = time_blocks(lambda: draw_batch(model, 1, seed), self.device, warmup_cap=0.15, cap_seconds=0.25)
                self.watched["sampling"] = watch.stop()
                self.costs += costs.sampling_costs(many, batch, single, machine.warning(self.watched["sampling"]))
                self.count_sampling(model, seed, first)
                if isinstance(model, Iterative):
                    self.costs.append(exact("nfe", model.nfe))
        self.artifacts["samples"] = provenance.hashlib.sha256(samples.tobytes()).hexdigest()
        return samples

    def count_sampling(self, model: GenerativeModel, seed: int, seconds: float) -> None:
        if seconds > costs.SLOWEST_COUNTED:
            self.training.setdefault("flops", {})["sampling"] = "not counted: one sample takes too long"
            return
        with eager():
            self.counted("sampling", lambda: costs.sampling_flops(model, seed))

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

    def sweep(self, model: GenerativeModel, curves: CurveScorer) -> None:
        """What the suite asks for beside one operating point."""
        if self.trial.role != "trained" or not (self.trial.batch_sweep or self.trial.nfe_sweep):
            return
        with self.stage("sweeps"):
            self.curves |= {
                name: points
                for name, points in ((BATCH, curves.batch_curve(model)), (NFE, curves.nfe_curve(model)))
                if points
            }
        best = best_batch(self.curves.get(BATCH, []))
        if best is not None:
            self.costs.append(best)

    def derive(self) -> None:
        """What follows from measured costs: utilisation, and money where the config has a price for the device."""
        hardware = self.machine["hardware"]
        self.costs += costs.utilisation_costs(self.costs, hardware.get("gpu"), self.autocast)
        prices = self.trial.prices
        if prices is not None and self.trial.role == "trained":
            spent = {cost.name: float(cost) for cost in self.costs}
            seconds = spent.get("training_seconds", 0.0) + spent.get("prior_seconds", 0.0)
            seconds += self.trial.samples / spent["sampling_throughput"]
            price = prices.of(hardware.get("gpu") or hardware["cpu"])
            self.costs += costs.money_costs(self.costs, price, seconds)

    def save(self, model: GenerativeModel, samples: np.ndarray) -> None:
        with self.stage("saving"):
            buffer = io.BytesIO()
            np.savez(buffer, samples=samples)
            write_atomically(self.out / SAMPLES, buffer.getvalue())
            self.artifacts["samples_file"] = provenance.file_sha256(self.out / SAMPLES)
            state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
            if state:
                write_atomically(self.out / WEIGHTS, safetensors.torch.save(state))
                write_atomically(self.out / DESCRIPTION, description_of(model))
                self.artifacts["weights_file"] = provenance.file_sha256(self.out / WEIGHTS)

    def score(self, data: Data, samples: np.ndarray, model: GenerativeModel, metrics: list[plan.Part]) -> list[str]:
        with self.stage("scoring"):
            cache = FeatureCache()
            evidence, bank = gather(self.trial, data, samples, model, cache, self.phase)
            found, seconds, errors = score(self.trial, metrics, evidence, bank.version, self.phase)
        self.quality += found
        self.scoring_seconds |= seconds
        self.training["extractor_version"] = bank.version
        return errors

    # --- the record

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
        trial, protocol = self.trial, self.protocol()
        return Record(
            trial=trial.id,
            suite=trial.suite,
            dataset=trial.dataset,
            model=trial.model,
            family=trial.family,
            role=trial.role,
            seed=trial.seed,
            status=status,
            reason=reason,
            started=self.started,
            budget={trial.budget_unit: trial.budget_amount},
            config=resolved(trial),
            measurements=[fields_of(cost, "cost", protocol) for cost in self.costs] + self.quality,
            scoring=trial.scoring,
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


def resolved(trial: Trial) -> dict[str, Any]:
    """The trial as recorded: everything but where it was run from."""
    return json.loads(trial.model_dump_json(exclude={"search_path", "timeout"}))


def sampling_seed(training_seed: int) -> int:
    """The seed of the sample set; its stream is apart from the training streams of all small seeds."""
    return 1_000_003 * (training_seed + 1)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
