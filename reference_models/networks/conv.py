"""The shared convolutional encoder and decoder: strided convolutions down to 4 x 4, and back."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench.model import ImageSpace, Space

SMALLEST = 4


def widths(space: ImageSpace, base: int) -> list[int]:
    """Channels after each halving, from the full resolution to about 4 x 4, doubling up to 4 x base."""
    halvings, side = 0, min(space.height, space.width)
    while side > SMALLEST and side % 2 == 0:
        side //= 2
        halvings += 1
    return [base * min(2**i, 4) for i in range(halvings + 1)]


def encoder(
    space: Space,
    outputs: int,
    base: int = 32,
    norm: bool = True,
    wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer,
) -> nn.Sequential:
    """``(B, *space.shape) -> (B, outputs)``. norm: batch normalisation. wrap: applied to each layer with weights."""
    if not isinstance(space, ImageSpace):
        hidden = base * 4
        return nn.Sequential(
            wrap(nn.Linear(space.dimensions, hidden)), nn.SiLU(), wrap(nn.Linear(hidden, hidden)), nn.SiLU(),
            wrap(nn.Linear(hidden, outputs)),
        )  # fmt: skip
    channels = widths(space, base)
    layers: list[nn.Module] = [wrap(nn.Conv2d(space.channels, channels[0], 3, padding=1)), nn.LeakyReLU(0.2, True)]
    for before, after in zip(channels, channels[1:]):
        layers.append(wrap(nn.Conv2d(before, after, 4, 2, 1, bias=not norm)))
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers.append(nn.LeakyReLU(0.2, True))
    scale = 2 ** (len(channels) - 1)
    cells = (space.height // scale) * (space.width // scale)
    return nn.Sequential(*layers, nn.Flatten(), wrap(nn.Linear(channels[-1] * cells, outputs)))


class Decoder(nn.Module):
    """``(B, inputs) -> (B, outputs or space.channels, H, W)``, linear at the end (no squashing)."""

    def __init__(self, space: Space, inputs: int, base: int = 32) -> None:
        super().__init__()
        self.space = space
        if not isinstance(space, ImageSpace):
            hidden = base * 4
            self.net = nn.Sequential(
                nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, space.dimensions),
            )  # fmt: skip
            return
        channels = widths(space, base)[::-1]
        scale = 2 ** (len(channels) - 1)
        start = (channels[0], space.height // scale, space.width // scale)
        layers: list[nn.Module] = [
            nn.Linear(inputs, start[0] * start[1] * start[2], bias=False),
            nn.Unflatten(1, start),
            nn.BatchNorm2d(start[0]),
            nn.ReLU(True),
        ]
        for before, after in zip(channels, channels[1:]):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        layers.append(nn.Conv2d(channels[-1], space.channels, 3, padding=1))
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
