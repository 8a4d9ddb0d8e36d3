"""The shared convolutional encoder and decoder: strided convolutions from the image to about 4 x 4, and back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from bench.model import ImageSpace
from reference_models.networks.equalised import MinibatchStd

SMALLEST = 4


def halvings(space: ImageSpace) -> int:
    """How often both sides can be halved before one is odd or would fall below 4."""
    count, height, width = 0, space.height, space.width
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        count, height, width = count + 1, height // 2, width // 2
    return count


class ConvEncoder(nn.Module):
    """``(B, C, H, W) -> (B, outputs)``: a 4 x 4 convolution of stride 2 for each halving, then one linear layer.

    width: channels after the first halving; they double with each further one, up to 4 x width.
    weights: wraps every layer that has weights (for spectral normalisation). minibatch_std: add that channel before the last.
    """

    def __init__(
        self,
        space: ImageSpace,
        outputs: int,
        width: int,
        weights: Callable[[nn.Module], nn.Module] = lambda layer: layer,
        *,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        count = halvings(space)
        widths = [width * min(2**i, 4) for i in range(max(count, 1))]
        layers: list[nn.Module] = []
        if count == 0:
            layers += [weights(nn.Conv2d(space.channels, widths[0], 3, padding=1)), nn.LeakyReLU(0.2)]
        for before, after in zip([space.channels, *widths], widths[:count]):
            layers += [weights(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        channels, cells = widths[-1], (space.height >> count) * (space.width >> count)
        if minibatch_std:
            layers.append(MinibatchStd())
            channels += 1
        self.layers = nn.Sequential(*layers, nn.Flatten(), weights(nn.Linear(channels * cells, outputs)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvDecoder(nn.Module):
    """``(B, inputs) -> (B, C, H, W)``, the mirror of ``ConvEncoder``; its last layer is linear, in no range.

    batch_norm: normalise every hidden layer, as a generator of the DCGAN kind needs.
    """

    def __init__(self, space: ImageSpace, inputs: int, width: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        count = halvings(space)
        widths = [width * min(2**i, 4) for i in range(max(count, 1))][::-1]
        start = (widths[0], space.height >> count, space.width >> count)

        def hidden(channels: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.SiLU()]

        layers: list[nn.Module] = [
            nn.Linear(inputs, start[0] * start[1] * start[2]),
            nn.Unflatten(1, start),
            *hidden(start[0]),
        ]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), *hidden(after)]
        if count == 0:
            layers.append(nn.Conv2d(widths[-1], space.channels, 3, padding=1))
        else:
            layers.append(nn.ConvTranspose2d(widths[-1], space.channels, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
