"""A small U-Net: x and a time in, a tensor of x's shape out. The network of diffusion, flow matching and their kin.

    x -> fold patches -> [ResBlock ... shrink] per level -> middle -> [ResBlock ... grow] per level -> unfold -> out
        \\                  \\______________ skips are added ______________/              /
         \\______________________ x times a number that the time decides ____________/

Made for little compute: patches of pixels are folded into channels before the first convolution, levels are changed by 2 x 2
convolutions of stride 2 and back by unfolding, and skips are added instead of concatenated. The linear way past everything gives the prediction its noise,
or a nearly clean image its pixels: neither would get through folding and normalisation unharmed. Activations are kept
channels_last (NHWC), which convolutions on CPUs and on CUDA tensor cores work in.
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

    What else it may be given: ``image`` ``(B, extra_channels, H, W)``, put beside x at the entrance (super-resolution), with its noise
    ``level`` ``(B,)`` in [0, 1]; ``context`` ``(B, L, context)`` with ``mask`` ``(B, L)`` (True: attend), attended to after every
    self-attention, and its mean joins the time (text).

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
        extra_channels: int = 0,
        context: int = 0,
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
        if not set(heights) & set(attention):
            if context:
                attention = heights[-2:]  # what is attended to has to be read somewhere
            elif attention:
                raise BenchError(
                    f"attention {list(attention)} fits no level of the U-Net, whose feature maps are {heights} high; choose among them"
                )
        embedding = 4 * width

        def stage(level: int, count: int) -> Stage:
            return Stage(widths[level], embedding, count, heights[level] in attention, context)

        steps = list(pairwise(widths))  # (channels above, channels below) of each change of level
        self.condition = Conditioning(embedding, classes, level=extra_channels > 0, context=context)
        self.enter = nn.Conv2d((channels + extra_channels) * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(level, blocks) for level in range(len(widths)))
        self.shrink = nn.ModuleList(nn.Conv2d(above, below, 2, stride=2) for above, below in steps)
        self.middle = stage(-1, 1)
        self.up = nn.ModuleList(stage(level, blocks) for level in range(len(widths)))
        self.grow = nn.ModuleList(nn.Conv2d(below, 4 * above, 1) for above, below in steps)
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = zero(nn.Conv2d(widths[0], (out_channels or channels) * patch**2, 3, padding=1))
        self.bypass = zero(nn.Linear(embedding, (out_channels or channels) * (channels + extra_channels)))
        self.to(memory_format=torch.channels_last)  # weights too: else every call would convert them

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        labels: Tensor | None = None,
        *,
        image: Tensor | None = None,
        level: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        condition = self.condition(t, labels, level, context, mask)
        if image is not None:
            x = torch.cat([x, image], 1)
        mixing = self.bypass(condition).unflatten(1, (-1, x.shape[1]))  # (B, out_channels, channels)
        past = (mixing @ x.flatten(2).to(mixing.dtype)).unflatten(2, x.shape[2:])
        x = self.enter(fold(x, self.patch).contiguous(memory_format=torch.channels_last))
        skips = []
        for depth, stage in enumerate(self.down):
            if depth > 0:
                x = self.shrink[depth - 1](x)
            x = stage(x, condition, context, mask)
            skips.append(x)
        x = self.middle(x, condition, context, mask)
        for depth in reversed(range(len(self.up))):
            x = self.up[depth](x + skips[depth], condition, context, mask)
            if depth > 0:
                x = unfold(self.grow[depth - 1](x), 2)
        return unfold(self.leave(silu(self.norm(x))), self.patch).add_(past)


class Stage(nn.Module):
    """The residual blocks of one level, each followed by attention where that is asked for: to itself, then to the context."""

    def __init__(self, channels: int, embedding: int, blocks: int, attention: bool, context: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(channels, embedding) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(channels) for _ in range(blocks if attention else 0))
        self.cross = nn.ModuleList(Attention(channels, context) for _ in range(blocks if attention and context else 0))

    def forward(
        self, x: Tensor, condition: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x, condition)
            if self.attention:
                x = self.attention[index](x)
            if self.cross:
                x = self.cross[index](x, context, mask)
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
        h = self.conv1(silu(self.norm1(x)))
        scale, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.conv2(silu(h)).add_(x)


class Attention(nn.Module):
    """Attention of all positions of a feature map to each other, or to a context; the residual branch begins at zero.

    context: width of the vectors attended to, 0 for self-attention.
    """

    HEAD = 16  # channels of one head, or a few more where 16 do not divide them

    def __init__(self, channels: int, context: int = 0) -> None:
        super().__init__()
        self.heads = next(n for n in range(max(1, channels // self.HEAD), 0, -1) if channels % n == 0)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context or channels, 2 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        b, c, h, w = x.shape
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)  # a view of channels_last memory
        attended = positions if context is None else context
        query = self._heads(self.query(positions))
        key, value = (self._heads(part) for part in self.key_value(attended).chunk(2, dim=-1))
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        out = self.out(mixed.transpose(1, 2).reshape(b, h * w, c))
        return x + out.view(b, h, w, c).permute(0, 3, 1, 2)

    def _heads(self, x: Tensor) -> Tensor:
        """``(B, L, C) -> (B, heads, L, C / heads)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else reads: in place where no gradient needs what stood there."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def fold(x: Tensor, side: int) -> Tensor:
    """Squares of ``side`` pixels become channels: ``(B, C, H, W) -> (B, C side^2, H / side, W / side)``."""
    return x if side == 1 else F.pixel_unshuffle(x, side)


def unfold(x: Tensor, side: int) -> Tensor:
    """The inverse of ``fold``."""
    return x if side == 1 else F.pixel_shuffle(x, side)
