"""From an untrained model to a finished one, under the budget, with what it cost."""

from __future__ import annotations

import json

import torch

from bench import costs
from bench.costs import exact
from bench.curves import TRAINING, CurveScorer, checkpoint_shares
from bench.measure.energy import EnergyMeter
from bench.measure.phase import PhaseMeters
from bench.model import FitsPrior, GenerativeModel, capabilities
from bench.record import CurvePoint
from bench.stages.state import CHECKPOINT, State
from bench.training import precision
from bench.training.batches import Batches, OnePass
from bench.training.compilation import compile_networks, compile_seconds
from bench.training.diagnostics import Diagnostics
from bench.training.ema import WeightAverage
from bench.training.loop import train
from bench.training.result import TrainingResult
from bench.training.resume import Checkpoints


def fit(run: State, model: GenerativeModel, batches: Batches, curves: CurveScorer) -> None:
    """Train under the budget, put the averaged weights in place, fit the prior."""
    if model.trains:
        resume = _checkpoints(run)
        _choose_precision(run, model, batches, resume)
        _count_training(run, model, batches)
        average = WeightAverage(model, run.trial.ema) if run.trial.ema else None
        if run.trial.compile:
            compile_networks(model)
        result = _train(run, model, batches, average, curves, resume)
        run.training |= {
            "steps": result.steps,
            "images": result.images,
            "ema_decay": average.decay if average else None,
            "losses": {name: [float(f"{v:.5g}") for v in values] for name, values in result.losses.items()},
        }
    fit_prior(run, model, batches)
    parameters = sum(p.numel() for p in model.parameters())
    run.costs.append(exact("parameters", parameters, direction="none"))
    run.training["capabilities"] = capabilities(model)


def _checkpoints(run: State) -> Checkpoints | None:
    """Where the state of this training is kept, if the suite asks for it."""
    if run.trial.checkpoint_every is None:
        return None
    found = Checkpoints(run.out / CHECKPOINT, run.trial.checkpoint_every, run.trial.id)
    if found.saved is not None:
        run.training["resumed_at_step"] = found.saved["result"]["steps"]
    return found


def _choose_precision(run: State, model: GenerativeModel, batches: Batches, resume: Checkpoints | None) -> None:
    """By a trial on this machine, one for all seeds; a training that goes on keeps what it began with."""
    if resume is not None and "precision" in resume.notes:
        why = resume.notes["precision"]
        run.autocast = precision.dtype_of(why)
    else:
        run.autocast, why = precision.choose_once(model, batches, run.trial.precision, run.precision_file)
    if resume is not None:
        resume.notes["precision"] = why
    run.training["precision"] = why


def _train(
    run: State,
    model: GenerativeModel,
    batches: Batches,
    average: WeightAverage | None,
    curves: CurveScorer,
    resume: Checkpoints | None,
) -> TrainingResult:
    """The training loop between the meters; checkpoints are scored off the clock."""
    points = [CurvePoint.model_validate(point) for point in resume.notes.get("curve", ())] if resume else []
    run.idle_watts = EnergyMeter(run.device).idle_watts()
    diagnostics = Diagnostics(model, batches, average)
    meters = PhaseMeters(run.device, "training")
    if "resumed_at_step" in run.training:
        meters.resume()

    def checkpoint(so_far: TrainingResult, share: float, seconds: float) -> None:
        at = {"share": share, "seconds": seconds, "images": float(so_far.images), "steps": float(so_far.steps)}
        with meters.checkpoint():
            points.append(curves.checkpoint(model, average, batches, at))
        if resume is not None:
            resume.notes["curve"] = [json.loads(point.model_dump_json()) for point in points]

    with run.stage("training"):
        result = train(
            model,
            batches,
            run.trial.budget_unit,
            run.trial.budget_amount,
            average=average,
            autocast=run.autocast,
            on_progress=lambda state: run.emit({"event": "progress", **state}),
            checkpoints=checkpoint_shares(run.trial.checkpoints),
            on_checkpoint=checkpoint,
            watch=lambda so_far, share: diagnostics.block(so_far, share, meters.aside),
            resume=resume,
            flops_per_step=_flops_per_step(run, batches),
        )
        meters.stop()
        if average is not None:
            average.apply()
    run.costs += diagnostics.measurements(result)
    run.training["diagnostics"] = diagnostics.course()
    if points:
        run.curves[TRAINING] = points
    run.watched["training"], run.training["energy"] = meters.seen, meters.energy_source
    if (ratio := costs.host_clock_ratio(result)) is not None:
        run.training["host_clock_ratio"] = round(ratio, 4)
    run.costs += [*meters.memory, *meters.energy(result.images, run.idle_watts)]
    run.costs += costs.training_costs(result, batches.batch_size, bool(points), meters.warning)
    if run.trial.compile:
        run.costs.append(exact("compile_seconds", compile_seconds(result), unit="s"))
    return result


def _count_training(run: State, model: GenerativeModel, batches: Batches) -> None:
    with run.stage("counting"):
        run.counted("training", lambda: costs.training_flops(model, batches, run.autocast))


def _flops_per_step(run: State, batches: Batches) -> float | None:
    """As counted before training; None where that could not be done."""
    per_image = next((float(cost) for cost in run.costs if cost.name == "training_flops_per_image"), 0.0)
    return per_image * batches.batch_size or None


def fit_prior(run: State, model: GenerativeModel, batches: Batches) -> None:
    model.eval()
    if isinstance(model, FitsPrior):
        with run.stage("prior"), torch.no_grad():
            model.fit_prior(OnePass(batches))
        run.costs.append(exact("prior_seconds", run.seconds["prior"], unit="s"))
