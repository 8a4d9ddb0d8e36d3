"""Checkpoints of a running training, so that a killed trial goes on where it was instead of beginning again.

A checkpoint holds all that the next step depends on: weights, buffers and counters of the model, its optimizers, the weight
average, the states of every random generator, the place in the shuffled data and what the budget has spent. A training that
is interrupted and goes on ends, on a CPU and with a budget in steps or images, with the same bits as one that never was.
"""

from __future__ import annotations

import dataclasses
import io
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.model import GenerativeModel
from bench.store import write_atomically
from bench.training.batches import Batches
from bench.training.ema import WeightAverage
from bench.training.result import TrainingResult

VERSION = 1
STATEFUL = "state of"
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class Checkpoints:
    """Writes a checkpoint of one training to ``path`` every ``every`` seconds of wall-clock time, and reads it back.

    identity: of the trial; a checkpoint of another one is ignored. notes: plain values that belong to the run (the precision that was
    chosen, points of a curve); they are written as they are at the time, and ``self.notes`` holds the old ones after a find.
    """

    def __init__(self, path: Path, every: float, identity: str) -> None:
        self.path, self.every, self.identity = Path(path), every, identity
        self.notes: dict[str, Any] = {}
        self.saved: dict[str, Any] | None = self._read()
        if self.saved is not None:
            self.notes = self.saved["notes"]
        self._last = time.perf_counter()
        self._readable = False

    def due(self) -> bool:
        return time.perf_counter() - self._last >= self.every

    def save(
        self,
        model: GenerativeModel,
        average: WeightAverage | None,
        batches: Batches,
        result: TrainingResult,
        seconds: float,
    ) -> None:
        """Write the whole state; the old checkpoint is replaced at once, never half."""
        state = {
            "version": VERSION,
            "identity": self.identity,
            "notes": self.notes,
            "seconds": seconds,
            "result": dataclasses.asdict(result),
            "batches": batches.state(),
            "random": random_state(model.device),
            "average": None if average is None else average.state(),
            "model": model_state(model),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        if not self._readable:
            _check_readable(buffer, model)
            self._readable = True
        write_atomically(self.path, buffer.getvalue())
        self._last = time.perf_counter()

    def restore(
        self, model: GenerativeModel, average: WeightAverage | None, batches: Batches, result: TrainingResult
    ) -> float:
        """Put the state that was found into everything given; the seconds of training so far (0.0 where none was found)."""
        if self.saved is None:
            return 0.0
        saved, self.saved = self.saved, None
        load_model_state(model, saved["model"])
        if average is not None:
            average.load(saved["average"])
        batches.load(saved["batches"])
        for name, value in saved["result"].items():
            setattr(result, name, value)
        set_random_state(saved["random"])
        self._last = time.perf_counter()
        return float(saved["seconds"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        """The checkpoint on disk, if it is a readable one of this trial. Nothing in the file is ever executed."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # missing, cut off, foreign: training begins anew
            return None
        if not isinstance(state, dict) or state.get("version") != VERSION or state.get("identity") != self.identity:
            return None
        return state


def _check_readable(buffer: io.BytesIO, model: nn.Module) -> None:
    """BenchError where a checkpoint could be written but never read: reading admits tensors and plain Python values alone."""
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"'{found[1]}'" if found else "something"
        raise BenchError(
            f"{type(model).__name__}: its training state holds {what}, which no checkpoint can give back; keep tensors and plain "
            "Python numbers in the model and its optimizers, or leave `checkpoint_every` out"
        ) from None


def model_state(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Module path -> everything that training may change there: tensors (all buffers too), optimizers, plain counters."""
    return {path: _module_state(module) for path, module in model.named_modules()}


def load_model_state(model: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """The inverse. Tensors are overwritten in place, so that optimizers and averages keep their hold on them."""
    for path, module in model.named_modules():
        found = dict(state.get(path, {}))
        for group in (module._parameters, module._buffers):
            for name in group:
                if name in found:
                    group[name] = _restored(group[name], found.pop(name))
        for name, value in found.items():
            setattr(module, name, _restored(getattr(module, name, None), value))


def _module_state(module: nn.Module) -> dict[str, Any]:
    own = {**module._parameters, **module._buffers}
    own |= {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}
    found = {name: _encoded(value) for name, value in own.items()}
    return {name: value for name, value in found.items() if value is not _NOT_STATE}


_NOT_STATE: Any = object()


def _plain(value: Any) -> Any:
    """The same with Python's numbers in the place of numpy's (a learning rate of a schedule, say)."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {key: _plain(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(part) for part in value)
    return value


def _encoded(value: Any) -> Any:
    """Tensors, numbers, strings, lists and dicts of them, and things with a ``state_dict``; _NOT_STATE for all else."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, torch.Generator):
        return {STATEFUL: value.get_state()}
    if isinstance(value, nn.Module):
        return _NOT_STATE  # reached by its own path
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return {STATEFUL: _plain(value.state_dict())}
    if type(value) is dict and all(isinstance(key, str | int) for key in value):
        parts = {key: _encoded(part) for key, part in value.items()}
        return _NOT_STATE if any(part is _NOT_STATE for part in parts.values()) else parts
    if type(value) in (list, tuple):
        parts_list = [_encoded(part) for part in value]
        return _NOT_STATE if any(part is _NOT_STATE for part in parts_list) else type(value)(parts_list)
    return _NOT_STATE


def _restored(present: Any, saved: Any) -> Any:
    """``saved`` in the place of ``present``, which is changed in place where it can be."""
    if isinstance(saved, dict) and set(saved) == {STATEFUL}:
        if isinstance(present, torch.Generator):
            present.set_state(saved[STATEFUL])
        elif present is not None:
            present.load_state_dict(saved[STATEFUL])
        return present
    if isinstance(saved, Tensor):
        if isinstance(present, Tensor) and present.shape == saved.shape and present.dtype == saved.dtype:
            with torch.no_grad():
                present.copy_(saved)
            return present
        return saved.clone() if not isinstance(present, Tensor) else saved.to(present.device)
    if isinstance(saved, dict) and isinstance(present, dict) and set(saved) == set(present):
        return {key: _restored(present[key], value) for key, value in saved.items()}
    if isinstance(saved, list | tuple) and isinstance(present, list | tuple) and len(saved) == len(present):
        return type(saved)(_restored(old, new) for old, new in zip(present, saved))
    return saved


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """The states of torch's, numpy's and Python's global generators, as tensors and numbers."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, numbers, gauss = random.getstate()
    cuda = device if device is not None and device.type == "cuda" else None
    return {
        "torch": torch.get_rng_state(),
        "cuda": None if cuda is None else torch.cuda.get_rng_state(cuda),
        "cuda_device": None if cuda is None else str(cuda),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "python": [version, list(numbers), gauss],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], state["cuda_device"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
