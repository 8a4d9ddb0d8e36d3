"""``torch.compile`` as a switch: the same model, its networks compiled in place, the compiler's seconds reported apart."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from bench.training.result import TrainingResult


def compile_networks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile the forward of every network that ``model`` holds, in place; parameters and state dicts stay as they are.

    backend: of ``torch.compile``. Compiled at the first call for a given shape and mode: the first training step, and again the first sample.
    """
    for network in model.children():
        if type(network).forward is nn.Module.forward:  # a list of layers, or a model inside the model: nothing to call
            compile_networks(network, backend)
        else:
            network.compile(backend=backend)


def compile_seconds(result: TrainingResult) -> float:
    """By how much the first step outlasted the usual one: what the compiler took."""
    usual = sorted(result.lap_seconds)[len(result.lap_seconds) // 2] if result.lap_seconds else 0.0
    return max(result.first_step_seconds - usual, 0.0)


def eager() -> AbstractContextManager[None]:
    """Compiled networks run uncompiled inside: for whoever counts operations, which a compiled kernel hides."""
    return torch.compiler.set_stance("force_eager")
