"""The shared denoising network: a small U-Net for images, an MLP for vectors; both take (x, time) and return x's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import ImageSpace, Space


def denoiser(space: Space, width: int, patch: int = 1, attention: bool = True) -> nn.Module:
    """The network for a space: ``(B, *shape), (B,) time in [0, 1] -> (B, *shape)``, zero at initialisation."""
    if isinstance(space, ImageSpace):
        return UNet(space, width, patch, attention)
    return TimeMLP(space.dimensions, 4 * width)


class UNet(nn.Module):
    """Residual U-Net (DDPM, 2020, arXiv 2006.11239) on patches, down to about 4 x 4, with attention at the bottom.

    width: channels at the highest level; the others have twice as many. patch: side of the squares that are folded into
    channels first (space-to-depth), which divides the cost of a level by its square.
    """

    def __init__(self, space: ImageSpace, width: int, patch: int, attention: bool) -> None:
        super().__init__()
        self.patch = patch
        side = min(space.height, space.width) // patch
        levels = 1
        while side > 4 and side % 2 == 0:
            side //= 2
            levels += 1
        channels = [width if i == 0 else 2 * width for i in range(levels)]
        embedding = 4 * width
        self.time = nn.Sequential(
            Fourier(width), nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.enter = nn.Conv2d(space.channels * patch**2, width, 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for before, after in zip([width, *channels], channels):
            self.down.append(ResidualBlock(before, after, embedding))
            self.shrink.append(nn.Conv2d(after, after, 3, 2, 1))
        bottom = channels[-1]
        self.middle = ResidualBlock(bottom, bottom, embedding)
        self.attend = Attention(bottom) if attention else nn.Identity()
        self.up = nn.ModuleList(
            ResidualBlock(below + across, across, embedding)
            for below, across in zip([bottom, *channels[:0:-1]], channels[::-1])
        )
        self.leave = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), zero(nn.Conv2d(width, space.channels * patch**2, 3, padding=1))
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        t = self.time(time)
        h = self.enter(F.pixel_unshuffle(x, self.patch))
        skips = []
        for i, (block, shrink) in enumerate(zip(self.down, self.shrink)):
            h = block(h, t)
            skips.append(h)
            if i + 1 < len(self.down):
                h = shrink(h)
        h = self.attend(self.middle(h, t))
        for i, block in enumerate(self.up):
            if i > 0:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = block(torch.cat([h, skips.pop()], 1), t)
        return F.pixel_shuffle(self.leave(h), self.patch)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the time embedding scales and shifts the second norm."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(F.silu(t))[:, :, None, None].chunk(2, 1)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over all positions, with a residual connection."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


class TimeMLP(nn.Module):
    """Residual MLP for vectors."""

    def __init__(self, size: int, width: int, depth: int = 3) -> None:
        super().__init__()
        self.time = nn.Sequential(Fourier(64), nn.Linear(64, width))
        self.enter = nn.Linear(size, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.leave = zero(nn.Linear(width, size))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h, t = self.enter(x), self.time(time)
        for layer in self.layers:
            h = h + layer(h + t)
        return self.leave(F.silu(h))


class Fourier(nn.Module):
    """Sinusoidal features of a time in [0, 1], as the Transformer's positions at 1000 steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        frequencies = 1000 * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        angles = time.float()[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)


def zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with all weights zero, so that a residual branch begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def default_patch(space: Space) -> int:
    """Fold 2 x 2 pixels from 16 pixels on: the lowest level that still shows strokes at an affordable cost."""
    return 2 if isinstance(space, ImageSpace) and min(space.height, space.width) >= 16 else 1


__all__: Sequence[str] = ("Attention", "ResidualBlock", "TimeMLP", "UNet", "default_patch", "denoiser")
