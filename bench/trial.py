"""One trial from start to finish: data -> model -> train -> sample -> measure -> score -> record."""

from __future__ import annotations

import io
import random
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from bench import plan, provenance, registry
from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.features.cache import FeatureCache
from bench.model import GenerativeModel
from bench.model_file import DESCRIPTION, description_of, load_weights
from bench.plan import Trial
from bench.record import MeasurementFields, Record
from bench.scoring import gather, score
from bench.stages.sampling import derive, sample, sweep
from bench.stages.state import CHECKPOINT, Emit, State
from bench.stages.training import fit, fit_prior
from bench.store import SAMPLES, has_samples, write_atomically
from bench.training.batches import Batches

RECORD, WEIGHTS = "record.json", "weights.safetensors"


def run_trial(trial: Trial, out: Path, emit: Emit = lambda event: None) -> Record:
    """Run ``trial`` into the folder ``out``; what is already there is not done again.

    A finished trial returns its record; one with a sample set whose metrics changed is scored again; everything else trains.
    The record is written to ``out`` last, atomically, so a half-run trial leaves none.
    """
    out.mkdir(parents=True, exist_ok=True)
    old = read_record(out, trial.id)
    if old is not None and old.scoring == trial.scoring:
        return old
    if old is not None and old.status != "complete" and not has_samples(out, old):
        old = None
    run = State(trial, out, emit)
    try:
        record = _rescored(run, old) if old is not None else _fresh(run)
    except TrialFailure as failure:
        record = run.record(failure.status, str(failure))
    except BenchError as error:
        record = run.record("failed", str(error))
    except Exception as error:
        (out / "traceback.txt").write_text(traceback.format_exc())
        status = "out-of-memory" if _is_out_of_memory(error) else "failed"
        record = run.record(status, f"{type(error).__name__}: {error}".splitlines()[0][:500])
    if old is not None and record.status != "complete":
        record = _with_what_was_measured(record, old)
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
    return None if record.status == "complete" and not has_samples(out, record) else record


def load_samples(out: Path) -> np.ndarray:
    """The sample set stored in a trial's folder."""
    with np.load(out / SAMPLES, allow_pickle=False) as archive:
        return archive["samples"]


def _fresh(run: State) -> Record:
    data = _load(run)
    model = _build(run, data)
    batches = Batches(data, run.trial.batch_size, run.trial.seed, run.device)
    curves = run.curve_scorer(data)
    with run.on_few_cores():
        fit(run, model, batches, curves)
        del batches
        _forget_training(model)
        samples = sample(run, model)
        _save(run, model, samples)
        sweep(run, model, curves)
    derive(run)
    return _scored(run, data, samples, model, list(run.trial.metrics))


def _forget_training(model: GenerativeModel) -> None:
    """Free gradients and the state of optimizers, so that the memory of sampling is that of sampling."""
    model.zero_grad(set_to_none=True)
    for optimizer in model.optimizers().values():
        optimizer.state.clear()


def _rescored(run: State, old: Record) -> Record:
    """Score the stored sample set with the metrics that changed; all else is kept as it was measured."""
    scored = old.scoring if old.status == "complete" else {}
    stale = [part for part in run.trial.metrics if scored.get(part.name) != part.digest]
    fresh_names = {part.name for part in run.trial.metrics} - {part.name for part in stale}
    run.quality = [fields for fields in old.measurements if fields.source in fresh_names]
    data, model = trained_model(run)
    run.costs.clear()  # those of the first run are kept
    run.training, run.artifacts, run.started = old.training, old.artifacts, old.started
    run.curves = run.curve_scorer(data).rescored(old.curves, model.eval(), stale)
    new = _scored(run, data, load_samples(run.out), model.eval(), stale)
    return new.model_copy(
        update={
            "measurements": [*_costs(old), *new.measurements],
            "seconds": {**old.seconds, "rescoring": run.seconds["scoring"]},
            **_conditions(old, new),
        }
    )


def trained_model(run: State) -> tuple[Data, GenerativeModel]:
    """The data and the model of a trial that has been trained, its weights read from the trial's folder."""
    data = _load(run)
    model = _build(run, data)
    if (run.out / WEIGHTS).is_file():
        load_weights(model, run.out / WEIGHTS)
    else:
        fit_prior(run, model, Batches(data, run.trial.batch_size, run.trial.seed, run.device))
    return data, model


def _with_what_was_measured(record: Record, old: Record) -> Record:
    """A record of a scoring that failed keeps what training and sampling cost, so that another scoring can complete it."""
    update = {"measurements": _costs(old), "training": old.training, "curves": old.curves, "artifacts": old.artifacts}
    return record.model_copy(
        update={**update, "started": old.started, "seconds": old.seconds, **_conditions(old, record)}
    )


def _conditions(old: Record, new: Record) -> dict[str, Any]:
    """Where and how the costs were measured, which a later scoring does not change; its own place is ``scored_on``."""
    now = dict(new.provenance)
    seconds = {**old.provenance.get("metric_seconds", {}), **now.pop("metric_seconds", {})}
    return {
        "environment": old.environment,
        "provenance": {**old.provenance, "metric_seconds": seconds, "scored_on": now},
    }


def _costs(record: Record) -> list[MeasurementFields]:
    """What training and sampling cost: no scoring changes it."""
    return [fields for fields in record.measurements if fields.source == "cost"]


def _scored(run: State, data: Data, samples: np.ndarray, model: GenerativeModel, metrics: list[plan.Part]) -> Record:
    errors = _score(run, data, samples, model, metrics)
    if errors:
        return run.record("failed", "; ".join(errors))
    return run.record("complete")


def _load(run: State) -> Data:
    with run.stage("loading"):
        data = plan.load_data(run.trial.dataset_target, run.trial.dataset_options)
        if data.digest() != run.trial.data_digest:
            raise TrialFailure("failed", f"data set '{run.trial.dataset}' changed since the trial was planned")
        return data


def _build(run: State, data: Data) -> GenerativeModel:
    with run.stage("building"):
        torch.manual_seed(run.trial.seed)
        np.random.seed(run.trial.seed % 2**32)
        random.seed(run.trial.seed)
        model_class = registry.load(run.trial.model_target)
        config = plan.with_classes(model_class, run.trial.model_config_, data)
        model: GenerativeModel = model_class(data.space, **config)
        return model.to(run.device)


def _save(run: State, model: GenerativeModel, samples: np.ndarray) -> None:
    with run.stage("saving"):
        buffer = io.BytesIO()
        np.savez(buffer, samples=samples)
        write_atomically(run.out / SAMPLES, buffer.getvalue())
        run.artifacts["samples_file"] = provenance.file_sha256(run.out / SAMPLES)
        state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
        if state:
            write_atomically(run.out / WEIGHTS, safetensors.torch.save(state))
            write_atomically(run.out / DESCRIPTION, description_of(model))
            run.artifacts["weights_file"] = provenance.file_sha256(run.out / WEIGHTS)


def _score(run: State, data: Data, samples: np.ndarray, model: GenerativeModel, metrics: list[plan.Part]) -> list[str]:
    with run.stage("scoring"):
        cache = FeatureCache()
        evidence = gather(run.trial, data, samples, model, cache, run.phase, run.images)
        found, seconds, errors = score(run.trial, metrics, evidence, run.phase)
    run.quality += found
    run.scoring_seconds |= seconds
    run.training["extractor_version"] = "; ".join(each.version for each in evidence)
    return errors


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
