"""A small U-Net: x and a time in, a tensor of x's shape out. The network of diffusion, flow matching and their kin.

    x -> fold patches -> [ResBlock ... shrink] per level -> middle -> [ResBlock ... grow] per level -> unfold -> out
                          \\______________ skips are added ______________/

Made for little compute: patches of pixels are folded into channels before the first convolution, levels go down to about
2 x 2 (where a 3 x 3 convolution sees everything, so that no attention is needed), levels are changed by folding and 1 x 1
convolutions, and skips are added instead of concatenated. On 16 x 16 digits this learns more in a given time on a CPU
than a wider net of fewer levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import BenchError
from reference_models.networks.embedding import Conditioning, zero

GROUPS = 8  # of GroupNorm; widths are multiples of it


class UNet(nn.Module):
    """``(B, channels, H, W), (B,) times in [0, 1], optional (B,) labels -> (B, out_channels, H, W)``; zero at first.

    resolution: (H, W). width: channels of the first level, a multiple of 8; multipliers: width of each level in units of it.
    blocks: residual blocks per level, each way. attention: the feature-map heights at which self-attention is added.
    patch: side of the squares that are folded into channels at the entrance. classes: see ``Conditioning``.
    Raises BenchError where the levels or the patch do not divide the resolution.
    """

    def __init__(
        self,
        channels: int,
        resolution: tuple[int, int],
        *,
        width: int = 16,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        attention: Sequence[int] = (),
        patch: int = 1,
        classes: int = 0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        shrink = patch * 2 ** (len(multipliers) - 1)
        if resolution[0] % shrink or resolution[1] % shrink:
            raise BenchError(
                f"a U-Net with patch {patch} and {len(multipliers)} levels needs sides that are multiples of {shrink}, "
                f"but the images are {resolution[0]}x{resolution[1]}; set patch or multipliers to match"
            )
        self.patch = patch
        widths = [width * multiplier for multiplier in multipliers]
        heights = [resolution[0] // patch // 2**level for level in range(len(widths))]
        embedding = 4 * width

        def stage(level: int, count: int) -> Stage:
            return Stage(widths[level], embedding, count, heights[level] in attention)

        steps = list(pairwise(widths))  # (channels above, channels below) of each change of level
        self.condition = Conditioning(embedding, classes)
        self.enter = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(level, blocks) for level in range(len(widths)))
        self.shrink = nn.ModuleList(nn.Conv2d(4 * above, below, 1) for above, below in steps)
        self.middle = stage(-1, 1)
        self.up = nn.ModuleList(stage(level, blocks) for level in range(len(widths)))
        self.grow = nn.ModuleList(nn.Conv2d(below, 4 * above, 1) for above, below in steps)
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = zero(nn.Conv2d(widths[0], (out_channels or channels) * patch**2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(t, labels)
        x = self.enter(fold(x, self.patch))
        skips = []
        for level, stage in enumerate(self.down):
            if level > 0:
                x = self.shrink[level - 1](fold(x, 2))
            x = stage(x, condition)
            skips.append(x)
        x = self.middle(x, condition)
        for level in reversed(range(len(self.up))):
            x = self.up[level](x + skips[level], condition)
            if level > 0:
                x = unfold(self.grow[level - 1](x), 2)
        return unfold(self.leave(F.silu(self.norm(x))), self.patch)


class Stage(nn.Module):
    """The residual blocks of one level, each followed by self-attention where that is asked for."""

    def __init__(self, channels: int, embedding: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(channels, embedding) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(channels) for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x, condition)
            if self.attention:
                x = self.attention[index](x)
        return x


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the condition scales and shifts the second norm; the branch begins at zero."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * channels)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all positions of a feature map, with a residual connection that begins at zero."""

    HEAD = 16  # channels of one head

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // self.HEAD)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(b, c, h, w))


def fold(x: Tensor, side: int) -> Tensor:
    """Squares of ``side`` pixels become channels: ``(B, C, H, W) -> (B, C side^2, H / side, W / side)``."""
    return x if side == 1 else F.pixel_unshuffle(x, side)


def unfold(x: Tensor, side: int) -> Tensor:
    """The inverse of ``fold``."""
    return x if side == 1 else F.pixel_shuffle(x, side)
