"""What a denoiser is conditioned on: the time, and optionally a class, as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """Sines and cosines of a time in [0, 1], ``(B,) -> (B, width)``, at geometrically spaced frequencies from 1 to 1000.

    The sinusoids of "Attention Is All You Need" (2017, arXiv 1706.03762), with the time counted in thousandths.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.logspace(0, 3, width // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t.float()[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Conditioning(nn.Module):
    """Time ``(B,)`` in [0, 1], optional labels ``(B,)`` int64 and optional level ``(B,)`` in [0, 1] -> ``(B, width)``.

    classes: number of classes, 0 for an unconditional model. The label ``classes`` itself means "no class given": what a
    model sees when labels are dropped for classifier-free guidance, and what ``labels=None`` stands for.
    level: is there a second number beside the time, as the noise on the small image that super-resolution begins with?
    context: width of vectors ``(B, L, context)`` whose mean over the ``(B, L)`` mask is told too (words of a text), 0 for none.
    """

    def __init__(
        self, width: int, classes: int = 0, frequencies: int = 32, *, level: bool = False, context: int = 0
    ) -> None:
        super().__init__()
        self.classes = classes

        def number() -> nn.Sequential:
            return nn.Sequential(
                Fourier(frequencies), nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width)
            )

        self.time = number()
        self.level = number() if level else None
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.context = nn.Linear(context, width) if context else None
        self.activation = nn.SiLU()

    def forward(
        self,
        t: Tensor,
        labels: Tensor | None = None,
        level: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        embedding = self.time(t)
        if self.level is not None and level is not None:
            embedding = embedding + self.level(level)
        if self.label is not None:
            if labels is None:
                labels = torch.full(t.shape, self.classes, dtype=torch.int64, device=t.device)
            embedding = embedding + self.label(labels)
        if self.context is not None and context is not None:
            embedding = embedding + self.context(masked_mean(context, mask))
        return self.activation(embedding)


def masked_mean(vectors: Tensor, mask: Tensor | None) -> Tensor:
    """``(B, L, width)`` -> their mean ``(B, width)`` over the places where the mask ``(B, L)`` is True (None: over all)."""
    if mask is None:
        return vectors.mean(1)
    weight = mask.to(vectors.dtype)
    return (vectors * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)


def zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with its weights set to zero, so that a residual branch or a whole network begins as "no change"."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
