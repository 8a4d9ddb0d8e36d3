"""From a trained model to its sample set, and what sampling costs."""

from __future__ import annotations

import datetime
import statistics

import numpy as np
import torch

from bench import costs, provenance
from bench.costs import exact
from bench.curves import BATCH, NFE, TRAINING, CurveScorer, best_batch
from bench.measure import machine
from bench.measure.blocks import time_blocks
from bench.measure.clock import time_once
from bench.measure.phase import PhaseMeters
from bench.model import GenerativeModel, Iterative
from bench.sampling import draw, draw_batch
from bench.stages.state import State, sampling_seed
from bench.training.compilation import eager


def sample(run: State, model: GenerativeModel) -> np.ndarray:
    """Draw the sample set and measure what sampling costs."""
    trial, seed = run.trial, sampling_seed(run.trial.seed)
    model.eval()
    with run.stage("sampling"), torch.inference_mode():
        first = time_once(lambda: draw_batch(model, 1, seed), run.device)
        run.costs.append(exact("time_to_first_sample", first, unit="s"))
        batch = min(trial.sample_batch, trial.samples)
        meters, watch = PhaseMeters(run.device, "sampling", bool(run.curves.get(TRAINING))), machine.Watch(run.device)
        samples, laps = draw(model, trial.samples, seed, batch, lambda done: run.phase(f"sampling {done}"))
        meters.stop()
        run.costs += meters.memory
        in_batch = _evaluations(model)
        if trial.role == "trained":
            run.costs += meters.energy(trial.samples, run.idle_watts)
            run.phase("timing the sampler")
            many = time_blocks(
                lambda: draw_batch(model, batch, seed), run.device, warmup_cap=0.3, cap_seconds=0.8, earlier=laps
            )
            single = time_blocks(lambda: draw_batch(model, 1, seed), run.device, warmup_cap=0.15, cap_seconds=0.25)
            run.watched["sampling"] = watch.stop()
            run.costs += costs.sampling_costs(many, batch, single, machine.warning(run.watched["sampling"]))
            _count_sampling(run, model, seed, statistics.median(single.laps))
            if in_batch is not None:
                run.costs.append(
                    exact(
                        "nfe", in_batch, note=_by_batch(trial.samples % batch or batch, in_batch, _evaluations(model))
                    )
                )
    run.artifacts["samples"] = provenance.hashlib.sha256(samples.tobytes()).hexdigest()
    return samples


def _evaluations(model: GenerativeModel) -> int | None:
    """NFE of what was sampled last, None where a network is not evaluated several times."""
    return model.nfe if isinstance(model, Iterative) else None


def _by_batch(batch: int, in_batch: int, alone: int | None) -> str | None:
    """What to say of a solver that chooses its own steps: it goes on until the slowest sample of a batch has arrived."""
    if alone == in_batch:
        return None
    return f"the solver chooses its steps: {in_batch} evaluations for a batch of {batch}, {alone} for one sample alone"


def _count_sampling(run: State, model: GenerativeModel, seed: int, seconds: float) -> None:
    if seconds > costs.SLOWEST_COUNTED:
        run.training.setdefault("flops", {})["sampling"] = "not counted: one sample takes too long"
        return
    with eager():
        run.counted("sampling", lambda: costs.sampling_flops(model, seed))


def sweep(run: State, model: GenerativeModel, curves: CurveScorer) -> None:
    """What the suite asks for beside one operating point."""
    if run.trial.role != "trained" or not (run.trial.batch_sweep or run.trial.nfe_sweep):
        return
    with run.stage("sweeps"):
        run.curves |= {
            name: points
            for name, points in ((BATCH, curves.batch_curve(model)), (NFE, curves.nfe_curve(model)))
            if points
        }
    best = best_batch(run.curves.get(BATCH, []))
    if best is not None:
        run.costs.append(best)


def derive(run: State) -> None:
    """What follows from measured costs: utilisation, and money where the config has a price for the device."""
    hardware = run.machine["hardware"]
    run.costs += costs.utilisation_costs(run.costs, hardware.get("gpu"), run.autocast)
    price = run.price
    if price is not None and run.trial.role == "trained":
        spent = {cost.name: float(cost) for cost in run.costs}
        seconds = spent.get("training_seconds", 0.0) + spent.get("prior_seconds", 0.0)
        seconds += run.trial.samples / spent["sampling_throughput"]
        run.costs += costs.money_costs(run.costs, price, seconds, datetime.date.fromisoformat(run.started[:10]))
