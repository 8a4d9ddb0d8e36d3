"""Multilayer perceptrons for vectors: the counterpart of the conv nets for 2-D mixtures and tables."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.embedding import Conditioning, zero


def mlp(inputs: int, outputs: int, width: int, depth: int = 2) -> nn.Sequential:
    """``(B, inputs) -> (B, outputs)`` through ``depth`` hidden layers."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class MLPDenoiser(nn.Module):
    """``(B, size), (B,) times in [0, 1], optional (B,) labels -> (B, outputs x size)``, residual, zero at first."""

    def __init__(self, size: int, *, width: int = 128, blocks: int = 3, classes: int = 0, outputs: int = 1) -> None:
        super().__init__()
        self.condition = Conditioning(width, classes)
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.leave = zero(nn.Linear(width, outputs * size))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(t, labels)
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h + condition)
        return self.leave(F.silu(h))
