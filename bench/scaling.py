"""`bench scaling`: speed of one model over resolutions, batch sizes, widths and processes. No data set: images are random."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import provenance, registry
from bench.errors import BenchError
from bench.measure import machine
from bench.measure.blocks import joined, rate, time_blocks
from bench.measure.flops import count_training
from bench.measure.scaling import exponent
from bench.model import Batch, FitsPrior, GenerativeModel
from bench.record import Measurement
from bench.sampling import draw_batch
from bench.space import ImageSpace
from bench.stats.intervals import Estimate
from bench.store import write_atomically

AXES = ("resolution", "batch", "width")
HALF_WAY = 0.5  # progress at which training is timed and counted: a growing network is half grown


@dataclasses.dataclass(frozen=True)
class Setup:
    """One size at which a model is timed. width: None leaves the model's own."""

    target: str
    config: Mapping[str, Any]
    device: str
    resolution: int = 16
    batch: int = 32
    width: int | None = None
    channels: int = 1

    def build(self, seed: int = 0) -> GenerativeModel:
        """The model with random weights; BenchError where it cannot have this size."""
        torch.manual_seed(seed)
        model_class = registry.load(self.target)
        options = dict(self.config) if self.width is None else {**self.config, "width": self.width}
        return model_class(ImageSpace(self.channels, self.resolution, self.resolution), **options).to(self.device)

    def images(self, model: GenerativeModel) -> Batch:
        x = torch.rand(self.batch, *model.space.shape, device=model.device) * 2 - 1
        labels = torch.zeros(self.batch, dtype=torch.int64, device=model.device)
        return Batch(x, labels, self.batch * ("a random image",))


@dataclasses.dataclass(frozen=True)
class Timed:
    """Speeds at one size. flops_per_image: of a training step."""

    axis: str
    value: int
    training: Measurement
    sampling: Measurement
    flops_per_image: float


def measure_axis(
    base: Setup,
    axis: str,
    values: Sequence[int],
    *,
    cap_seconds: float = 2.0,
    on_value: Callable[[str], None] = print,
    on_failure: Callable[[str], None] = print,
) -> list[Timed]:
    """Time the model at each value of one axis (resolution | batch | width), all else as in ``base``.

    A value that cannot be timed (too large for the memory, say) is told to ``on_failure`` and left out; BenchError where none can.
    """
    if axis not in AXES:
        raise BenchError(f"scaling goes along {', '.join(AXES)}, not '{axis}'")
    found, failures = [], []
    for value in sorted(set(values)):
        on_value(f"{axis} {value}")
        changed: dict[str, Any] = {axis: value}
        try:
            found.append(_time(dataclasses.replace(base, **changed), axis, value, cap_seconds))
        except BenchError as error:
            failures.append(str(error))
        if base.device != "cpu":
            torch.cuda.empty_cache()  # for the next size, and for the processes that share this device
    if not found and failures:
        raise BenchError(failures[0])
    for failure in failures:
        on_failure(failure)
    return found


def _time(setup: Setup, axis: str, value: int, cap_seconds: float) -> Timed:
    try:
        return _timed(setup, axis, value, cap_seconds)
    except (ValueError, RuntimeError, MemoryError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise BenchError(f"the model cannot be timed at {axis} {value}: {why}") from None


def _timed(setup: Setup, axis: str, value: int, cap_seconds: float) -> Timed:
    model = setup.build().train()
    batch, device = setup.images(model), torch.device(setup.device)
    counted, steps = count_training(model, lambda copied, _: copied.train_step(batch, HALF_WAY))
    flops = counted.flops / (steps * len(batch))
    watch = machine.Watch(device)
    training = time_blocks(lambda: model.train_step(batch, HALF_WAY), device, cap_seconds=cap_seconds)
    model.eval()
    with torch.inference_mode():
        if isinstance(model, FitsPrior):
            model.fit_prior([setup.images(model) for _ in range(8)])
        sampling = time_blocks(lambda: draw_batch(model, setup.batch, 0), device, cap_seconds=cap_seconds)
    warning = machine.warning(watch.stop())
    return Timed(
        axis,
        value,
        rate("training_throughput", training.blocks, setup.batch, note=joined(warning, training.note)),
        rate("sampling_throughput", sampling.blocks, setup.batch, note=joined(warning, sampling.note)),
        flops,
    )


def exponents(points: Sequence[Timed]) -> dict[str, Estimate | None]:
    """Of training and sampling images/s, and of training FLOPs an image, along the axis of ``points``.

    None where a power law cannot be fitted, because a number is zero: the FLOPs of a model that computes nothing.
    """
    x = [point.value for point in points]
    found = {
        "training": [float(point.training) for point in points],
        "sampling": [float(point.sampling) for point in points],
        "training FLOPs an image": [point.flops_per_image for point in points],
    }
    return {what: exponent(x, y) if min(y) > 0 else None for what, y in found.items()}


def save_scaling(name: str, setup: Setup, points: Sequence[Timed], parallel: Sequence[Any], results: Path) -> Path:
    """Write ``results/scaling/NAME.json`` with the machine it was measured on.

    What the file holds of other axes, and of processes where ``parallel`` is empty, stays if it was measured with the same setup in
    the same environment; else the file begins anew.
    """
    environment, where = provenance.environment(setup.device)
    path = results / "scaling" / f"{name}.json"
    described = json.loads(json.dumps(dataclasses.asdict(setup)))
    kept = _earlier(path, described, environment)
    by_axis = {axis: [point for point in points if point.axis == axis] for axis in AXES}
    untouched = [axis for axis in AXES if not by_axis[axis]]
    content = {
        "model": name,
        "setup": described,
        "environment": environment,
        "provenance": where,
        "points": [point for point in kept.get("points", []) if point["axis"] in untouched]
        + [_described(p) for p in points],
        "exponents": {axis: fits for axis, fits in kept.get("exponents", {}).items() if axis in untouched}
        | {
            axis: {what: fit._asdict() for what, fit in exponents(mine).items() if fit is not None}
            for axis, mine in by_axis.items()
            if len(mine) > 1
        },
        "processes": [dataclasses.asdict(entry) | {"throughput": entry.throughput.to_dict()} for entry in parallel]
        or kept.get("processes", []),
    }
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def _described(point: Timed) -> dict[str, Any]:
    return {
        "axis": point.axis,
        "value": point.value,
        "flops_per_image": point.flops_per_image,
        "measurements": [point.training.to_dict(), point.sampling.to_dict()],
    }


def _earlier(path: Path, setup: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """The content of the file where it was measured with this setup in this environment; else {}."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if (found["setup"], found["environment"]) == (setup, environment) else {}
