"""Which network suits which space: convolutions for images, perceptrons for vectors, sized by the resolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from bench.model import BenchError, ImageSpace, Space, VectorSpace
from reference_models.networks.conv import ConvDecoder, ConvEncoder
from reference_models.networks.equalised import MinibatchStd
from reference_models.networks.mlp import MLPDenoiser, mlp
from reference_models.networks.unet import UNet
from reference_models.options import at_least_one, given

COARSEST = 16  # height and width of the U-Net's last level, where no attention asks for a smaller one


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """The network of a model that denoises; ``None`` means: chosen from the space.

    width: channels of the U-Net's first level, a multiple of 8 (vectors: width of the perceptron).
    multipliers: width of each level of the U-Net in units of ``width``; its length is the number of levels.
    blocks: residual blocks per level and direction (vectors: residual blocks).
    attention: heights of the feature maps that get self-attention.
    patch: side of the pixel squares folded into channels first.
    """

    width: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    attention: tuple[int, ...] = ()
    patch: int | None = None

    def __post_init__(self) -> None:
        for name in ("multipliers", "attention"):  # TOML and JSON know lists only
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.width is not None and (self.width < 8 or self.width % 8):
            raise ValueError(f"width must be a positive multiple of 8, got {self.width}")
        if self.multipliers is not None and (not self.multipliers or min(self.multipliers) < 1):
            raise ValueError(f"multipliers must be one or more positive integers, got {list(self.multipliers)}")
        at_least_one(self, *given(self, "blocks", "patch"))


def denoiser(space: Space, config: DenoiserConfig, classes: int = 0, outputs: int = 1) -> nn.Module:
    """``(x, t, labels=None) -> outputs`` tensors of x's shape, one after the other in dimension 1; all zero at initialisation.

    A U-Net for images, a perceptron for vectors. classes: see ``Conditioning``.
    """
    if isinstance(space, VectorSpace):
        if config.multipliers or config.attention or config.patch:
            raise BenchError(
                f"multipliers, attention and patch belong to images, but the data set holds {space}; remove them"
            )
        return MLPDenoiser(
            space.size, width=config.width or 128, blocks=config.blocks or 3, classes=classes, outputs=outputs
        )
    assert isinstance(space, ImageSpace)
    return unet(space, config, classes=classes, out_channels=outputs * space.channels)


def unet(space: ImageSpace, config: DenoiserConfig, **options: Any) -> UNet:
    """A U-Net for images of ``space``; what ``config`` leaves open follows the resolution. options: of ``UNet``."""
    patch = config.patch or default_patch(space)
    return UNet(
        space.channels,
        (space.height, space.width),
        width=config.width or (24 if max(space.height, space.width) <= 8 else 48),
        multipliers=config.multipliers or default_multipliers(space, patch, min(config.attention, default=COARSEST)),
        blocks=config.blocks or 1,
        attention=config.attention,
        patch=patch,
        **options,
    )


def default_patch(space: ImageSpace) -> int:
    """1 up to 8 pixels, 2 up to 32, 4 above: the first level works on 8 to 16 positions a side."""
    side = max(space.height, space.width)
    wanted = 1 if side <= 8 else 2 if side <= 32 else 4
    while space.height % wanted or space.width % wanted:
        wanted //= 2
    return wanted


def default_multipliers(space: ImageSpace, patch: int, coarsest: int = COARSEST) -> tuple[int, ...]:
    """1, 2, 4, 4 ...: a level for every halving until the map is at most ``coarsest`` high and wide.

    On a map of 16 x 16 the convolutions of one level see nearly all of the image, and in trainings of minutes one wide level learns
    more per second than several; for trainings of hours set ``multipliers``.
    """
    multipliers, height, width = [1], space.height // patch, space.width // patch
    while height % 2 == 0 and width % 2 == 0 and max(height, width) > coarsest:
        multipliers.append(min(2 * multipliers[-1], 4))
        height, width = height // 2, width // 2
    return tuple(multipliers)


def encoder(
    space: Space,
    outputs: int,
    width: int,
    weights: Callable[[nn.Module], nn.Module] = lambda layer: layer,
    *,
    minibatch_std: bool = False,
) -> nn.Module:
    """``(B, *space.shape) -> (B, outputs)``. weights: wraps each layer that has weights. minibatch_std: before the last one."""
    if isinstance(space, ImageSpace):
        return ConvEncoder(space, outputs, width, weights, minibatch_std=minibatch_std)
    layers = list(mlp(space.dimensions, outputs, 4 * width))
    if minibatch_std:
        layers[-1:] = [MinibatchStd(), nn.Linear(4 * width + 1, outputs)]
    return nn.Sequential(*(weights(layer) if isinstance(layer, nn.Linear) else layer for layer in layers))


def decoder(space: Space, inputs: int, width: int, *, batch_norm: bool = False) -> nn.Module:
    """``(B, inputs) -> (B, *space.shape)``, linear at the end."""
    if isinstance(space, ImageSpace):
        return ConvDecoder(space, inputs, width, batch_norm=batch_norm)
    return mlp(inputs, space.dimensions, 4 * width)
