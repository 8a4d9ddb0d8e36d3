"""Layers of the GANs that grew up: equalised learning rate, pixel norm, minibatch standard deviation, blurred resizing.

"Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2017, arXiv 1710.10196); the filter: "Analyzing and
Improving the Image Quality of StyleGAN" (2019, arXiv 1912.04958).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualisedLinear(nn.Module):
    """A linear layer that stores weights of N(0, 1) and multiplies them by 1 / sqrt(inputs) whenever it is used.

    So every weight has the same size and, under Adam, the same speed of learning. multiplier: of that speed. bias: its first value.
    """

    def __init__(self, inputs: int, outputs: int, *, multiplier: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.scale, self.multiplier = multiplier / math.sqrt(inputs), multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.multiplier)


class EqualisedConv2d(nn.Module):
    """A convolution of stride 1 that keeps the size, with the weights of ``EqualisedLinear``."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class PixelNorm(nn.Module):
    """Each position's channels divided by their root mean square: ``(B, C, ...)``, unit mean square over C."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.float().square().mean(1, keepdim=True) + 1e-8).rsqrt().to(x.dtype)


class MinibatchStd(nn.Module):
    """One more channel: how much the images of a group differ, so that the discriminator sees a generator that repeats itself.

    ``(B, C, ...) -> (B, C + 1, ...)``. group: images compared with one another; groups of fewer where B is no multiple of it.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        group = max(size for size in range(1, self.group + 1) if len(x) % size == 0)
        members = x.float().unflatten(0, (-1, group))  # consecutive images, so that real and fake ones do not mix
        deviation = (members.var(1, correction=0) + 1e-8).sqrt().flatten(1).mean(1)
        channel = deviation.repeat_interleave(group).view(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
        return torch.cat([x, channel.to(x.dtype)], 1)


class Blur(nn.Module):
    """The filter [1, 3, 3, 1] in both directions, on every channel by itself. gain: sum of the filter."""

    kernel: Tensor

    def __init__(self, *, gain: float = 1.0, stride: int = 1) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", gain * torch.outer(line, line) / 64, persistent=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """stride 1: one row and column less than ``x``; stride 2: half of both."""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, kernel, stride=self.stride, padding=1, groups=x.shape[1])
