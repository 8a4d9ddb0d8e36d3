"""What went wrong in training, measured: oscillating losses, gradients, an uneven game, collapse over time, the lag of the average.

Everything is read at the end of a block of steps and off the clock, so that a watched run learns what an unwatched one does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.measure.clock import synchronise
from bench.metrics.collapse import LIMIT, collapse_evidence
from bench.model import FitsPrior, GenerativeModel, SampleGenerator
from bench.record import Measurement
from bench.sampling import draw_batch, to_model_range
from bench.space import ImageSpace, TokenSpace
from bench.training.batches import Batches
from bench.training.ema import WeightAverage
from bench.training.result import TrainingResult

BALANCE = "advantage"
"""The loss name under which an adversarial model reports how often its discriminator scores a real example above a fake one."""

SATURATED = 0.99
"""An advantage beyond this leaves the generator of a saturating loss nearly no gradient."""

SNAPSHOTS = 8
SNAPSHOT_SAMPLES = 200
SNAPSHOT_SHARE = 0.04
"""A model whose samples for all snapshots would take more than this share of training is not watched for collapse."""

SNAPSHOT_SEED = 0x5EED
PIXELS = 8
"""Images are compared at this many pixels a side: cheap, and enough to see whether samples differ."""

FEWEST_BLOCKS = 12

Aside = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass
class Snapshot:
    """The verdict on the live model after ``step`` steps, with its evidence."""

    step: int
    missing_mass: float
    repetitions: float
    diversity: float
    collapsed: bool


class Diagnostics:
    """Watches one training run. ``block`` is called at the end of every block; ``measurements`` and ``course`` at the end."""

    def __init__(self, model: GenerativeModel, batches: Batches, average: WeightAverage | None = None) -> None:
        self.model, self.average = model, average
        self.gradient_norms: dict[str, list[float]] = {}
        self.snapshots: list[Snapshot] = []
        self.unwatched = _why_not(model)
        self._real = None if self.unwatched else _features(_some(batches), model)
        self._due = [share / SNAPSHOTS for share in range(1, SNAPSHOTS + 1)]
        self._lags: list[float] = []

    def block(self, result: TrainingResult, share: float, aside: Aside = contextlib.nullcontext) -> float:
        """Look at the model after a block; share: of the budget used. aside: samples are drawn inside, off the meters. Returns the
        seconds that this took."""
        began = time.perf_counter()
        for name, optimizer in self.model.optimizers().items():
            norm = gradient_norm(optimizer)
            overflows = self.model.float16_scaler is not None  # now and then, by design; such steps are left out
            if norm is not None and (math.isfinite(norm) or not overflows):
                self.gradient_norms.setdefault(name, []).append(norm)
        if self._due and share >= self._due[0]:
            self._due = [later for later in self._due if later > share]
            if self.average is not None:
                self._lags.append(self.average.lag())
            if self._real is not None:
                trained = result.warmup_seconds + sum(result.block_seconds)
                with aside():
                    self._snapshot(result.steps, SNAPSHOT_SHARE * trained / share / SNAPSHOTS)
        return time.perf_counter() - began

    def _snapshot(self, step: int, allowed_seconds: float) -> None:
        self.model.eval()
        try:
            with torch.inference_mode():
                samples = _timed_samples(self.model, allowed_seconds)
        finally:
            self.model.train()
        if samples is None:
            self.unwatched, self._real = (
                f"samples of snapshots would take more than {SNAPSHOT_SHARE:.0%} of training",
                None,
            )
        elif samples.isfinite().all():
            assert self._real is not None
            self.snapshots.append(snapshot(self._real, _features(samples, self.model), step))

    def measurements(self, result: TrainingResult) -> list[Measurement]:
        """The columns: oscillation, gradient_spike, discriminator_advantage and _saturated, ema_lag, training_collapsed, collapse_step."""
        found = [worst_oscillation(result.losses)]
        norms = {name: np.asarray(norms) for name, norms in self.gradient_norms.items() if len(norms) >= FEWEST_BLOCKS}
        if norms:
            found.append(worst_spike(norms))
        if BALANCE in result.losses:
            found += balance(result.losses[BALANCE])
        if self._lags:
            note = "at the end of training: |average - live| / |live|; no interval: one reading"
            found.append(Measurement(self._lags[-1], name="ema_lag", n=1, note=note))
        if self.snapshots and not self.unwatched:  # given up half way, it has no verdict of the end
            found += collapse(self.snapshots)
        return [measurement for measurement in found if measurement is not None]

    def course(self) -> dict[str, Any]:
        """What happened when, for the record: gradient norms a block, the lag and the verdicts at each snapshot."""
        return {
            "gradient_norms": {name: [_short(norm) for norm in norms] for name, norms in self.gradient_norms.items()},
            "ema_lag": [_short(lag) for lag in self._lags],
            "collapse": [
                {k: _short(v) if isinstance(v, float) else v for k, v in dataclasses.asdict(each).items()}
                for each in self.snapshots
            ],
            **({"collapse_not_watched": self.unwatched} if self.unwatched else {}),
        }


def oscillation_index(losses: list[float] | np.ndarray) -> float:
    """How much a loss still swings at the end: the standard deviation of its second half about a straight line, divided by that of
    the whole course. 0 for a course that settles, about 1 for one that swings throughout. It does not change when the loss is
    shifted or scaled, so losses of different kinds can be compared.

    losses: means of blocks of steps, in order; shorter than 12 gives NaN, a constant course 0.
    """
    course = np.asarray(losses, dtype=np.float64)
    if len(course) < FEWEST_BLOCKS:
        return math.nan
    late = course[len(course) // 2 :]
    whole = course.std()
    if whole <= 1e-12 * max(1.0, float(np.abs(course).max())):
        return 0.0
    times = np.arange(len(late))
    return float((late - np.polyval(np.polyfit(times, late, 1), times)).std() / whole)


def worst_oscillation(losses: dict[str, list[float]]) -> Measurement | None:
    """``oscillation``: the largest index of all losses; None where training was too short."""
    found = {name: oscillation_index(course) for name, course in losses.items() if name != BALANCE}
    found = {name: value for name, value in found.items() if math.isfinite(value)}
    if not found:
        return None
    name = max(found, key=lambda each: found[each])
    note = f"of loss '{name}'; no interval: one course"
    return Measurement(found[name], name="oscillation", n=len(losses[name]), direction="lower", note=note)


def gradient_norm(optimizer: torch.optim.Optimizer) -> float | None:
    """The length of the gradient that the last step left in all parameters of an optimizer; None where there is none."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return None
    return float(torch.linalg.vector_norm(torch.stack([norm.float() for norm in torch._foreach_norm(gradients)])))


def worst_spike(norms: dict[str, np.ndarray]) -> Measurement:
    """``gradient_spike``: largest over median gradient norm after the first quarter, of the optimizer where that is largest.

    Infinite, stored as null, where a norm was not finite.
    """
    late = {name: each[len(each) // 4 :] for name, each in norms.items()}
    ratios = {
        name: float(each.max() / max(np.median(each), 1e-30)) if np.isfinite(each).all() else math.inf
        for name, each in late.items()
    }
    name = max(ratios, key=lambda each: ratios[each])
    bad = int((~np.isfinite(late[name])).sum())
    note = f"{name}: {bad} of {len(late[name])} gradients not finite" if bad else f"of {name}; no interval: one course"
    return Measurement(ratios[name], name="gradient_spike", n=len(late[name]), direction="lower", note=note)


def balance(advantages: list[float]) -> list[Measurement]:
    """``discriminator_advantage``, the mean of the second half (0.5: it guesses, 1: it has won), and ``discriminator_saturated``, the
    share of blocks of that half in which it is above 0.99."""
    late = np.asarray(advantages[len(advantages) // 2 :])
    note = "no interval: one course"
    mean = Measurement(late.mean(), name="discriminator_advantage", n=len(late), note=note)
    share = float((late > SATURATED).mean())
    return [
        mean,
        Measurement(share, name="discriminator_saturated", n=len(late), direction="lower", note=note),
    ]


def snapshot(real: np.ndarray, fake: np.ndarray, step: int) -> Snapshot:
    """Features ``(N, d)`` of data and samples -> the verdict: that of ``bench.metrics.collapse``, beside which stands the diversity,
    the trace of the samples' covariance over that of the data's."""
    missing, repeated = collapse_evidence(real, fake)
    spread = float(fake.var(0).sum() / max(float(real.var(0).sum()), 1e-30))
    certain = repeated.low is not None and repeated.low > LIMIT
    return Snapshot(step, float(missing), float(repeated), spread, bool(missing > LIMIT or certain))


def collapse(snapshots: list[Snapshot]) -> list[Measurement]:
    """``training_collapsed`` (1 or 0: the verdict at the last snapshot) and, where it is 1, ``collapse_step``, the step of the first
    snapshot from which on every verdict was "collapsed"."""
    last = snapshots[-1]
    times = sum(each.collapsed for each in snapshots)
    note = (
        f"at {PIXELS} pixels a side: missing mass {last.missing_mass:.0%}, repetitions {last.repetitions:+.0%}, diversity "
        f"{last.diversity:.0%}; {times} of {len(snapshots)} snapshots; a verdict, no interval"
    )
    found = [
        Measurement(float(last.collapsed), name="training_collapsed", n=SNAPSHOT_SAMPLES, direction="lower", note=note)
    ]
    if last.collapsed:
        began = last.step
        for each in reversed(snapshots):
            if not each.collapsed:
                break
            began = each.step
        note = f"the first of {len(snapshots)} snapshots from which on all were collapsed"
        found.append(Measurement(began, name="collapse_step", n=len(snapshots), unit="steps", note=note))
    return found


def _why_not(model: GenerativeModel) -> str:
    """Why a model cannot be watched for collapse while it trains, or ""."""
    if isinstance(model.space, TokenSpace):
        return "sequences have no distance here"
    if isinstance(model, FitsPrior) and model.samples_need_prior:
        return "its prior is fitted after training"
    return ""


def _timed_samples(model: GenerativeModel, allowed_seconds: float) -> Tensor | None:
    """The snapshot's samples, always of the same noise; None where already the first few take longer than is allowed."""
    few = SampleGenerator.BLOCK
    began = time.perf_counter()
    first = draw_batch(model, few, SNAPSHOT_SEED)
    synchronise(model.device)
    if time.perf_counter() - began > allowed_seconds:
        return None
    return torch.cat([first, draw_batch(model, SNAPSHOT_SAMPLES - few, SNAPSHOT_SEED, few)])


def _some(batches: Batches, count: int = 1000) -> Tensor:
    """``count`` training examples, evenly spread, in model range."""
    chosen = torch.linspace(0, len(batches.x) - 1, min(count, len(batches.x))).round().long().to(batches.x.device)
    return to_model_range(batches.x[chosen], batches.space)


def _features(x: Tensor, model: GenerativeModel) -> np.ndarray:
    """``(N, d)``: images averaged to 8 pixels a side, vectors as they are."""
    if isinstance(model.space, ImageSpace):
        x = F.adaptive_avg_pool2d(x.float(), (min(PIXELS, x.shape[2]), min(PIXELS, x.shape[3])))
    return x.flatten(1).float().cpu().numpy()


def _short(value: float) -> float | None:
    """Five digits for the record; what is not finite is null."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
