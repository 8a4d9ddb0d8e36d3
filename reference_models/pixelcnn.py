"""PixelCNN: each pixel is drawn given all pixels above it and to its left, by convolutions that see nothing else.

Two stacks of gated layers: the vertical one sees the rows above, the horizontal one the pixels to the left and, through the
vertical one, everything above. That order allows exact sampling at little cost: rows of the vertical stack are computed once a
row and pixels of the horizontal stack once a pixel, from what earlier ones left in a cache.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models import logistic_mixture
from reference_models.networks.embedding import zero
from reference_models.options import at_least_one, positive
from reference_models.schedules import set_learning_rate

LARGEST_GRADIENT = 1.0


class PixelCNN(GenerativeModel):
    """Gated PixelCNN with a discretised logistic mixture for each pixel: exact bits per dimension, cached sampling."""

    family = "autoregressive"
    paper = (
        "Conditional Image Generation with PixelCNN Decoders, 2016, arXiv 1606.05328; mixture of logistics: PixelCNN++, 2017, "
        "arXiv 1701.05517"
    )
    known_failures = (
        "Local texture is right long before global shape: after some minutes on MNIST clean strokes in the right place, of which some "
        "make a digit. One step a pixel, so sampling time grows with the area."
    )
    spaces = (ImageSpace,)
    nll_kind: ClassVar[Literal["exact", "upper_bound", "estimate"]] = "exact"

    @dataclasses.dataclass(frozen=True)
    class Config:
        """width: channels of each stack. layers: gated layers after the first. components: logistics mixed for each pixel."""

        width: int = 16
        layers: int = 5
        components: int = 6
        learning_rate: float = 5e-3

        def __post_init__(self) -> None:
            at_least_one(self, "width", "layers", "components")
            positive(self, "learning_rate")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        assert isinstance(space, ImageSpace)
        width = self.config.width
        count = logistic_mixture.outputs(space.channels, self.config.components)
        # the first layer reads the image and so excludes the pixel itself; dilation widens the view of those after it
        self.first = GatedLayer(space.channels + 1, width, first=True)
        self.layers = nn.ModuleList(GatedLayer(width, width, dilation=2 ** (i % 3)) for i in range(self.config.layers))
        self.place = nn.Parameter(
            torch.zeros(width, space.height, space.width)
        )  # what is likely where, before any pixel
        self.leave = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), zero(nn.Linear(width, count)))
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        loss = self.negative_log_probability(batch.x).mean() / self.space.dimensions
        self.descend(loss, self.optimizer, longest=LARGEST_GRADIENT)
        return {"nll": loss.detach()}

    def parameters_of_pixels(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, H, W, outputs)``: what each pixel's distribution is made of, given the pixels before it."""
        h = _with_ones(x)
        down, right = self.first(h, h)
        right = right + self.place
        for layer in self.layers:
            down, right = layer(down, right)
        return self.leave(right.permute(0, 2, 3, 1))

    def negative_log_probability(self, x: Tensor) -> Tensor:
        raw = self.parameters_of_pixels(x)
        return -logistic_mixture.log_probability(x.permute(0, 2, 3, 1), raw).sum((1, 2))

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """-log P of the 8-bit levels in nats, exact, ``(B,)``."""
        return self.negative_log_probability(x)

    @property
    def nfe(self) -> int:
        """One evaluation a pixel, though each costs a pixel's share of the network only."""
        assert isinstance(self.space, ImageSpace)
        return self.space.height * self.space.width

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Pixel by pixel, in reading order. ``temperature`` (1.0): below 1 likelier and less diverse."""
        assert isinstance(self.space, ImageSpace)
        temperature = float(options.get("temperature", 1.0))
        channels, height, width = self.space.shape
        x = torch.zeros(n, channels, height, width, device=self.device)
        layers: list[GatedLayer] = [self.first, *self.layers]  # type: ignore[list-item]
        inputs = [channels + 1] + [self.config.width] * len(self.layers)
        caches = [RowCache(n, size, self.space, x.device) for size in inputs]
        for row in range(height):
            above = x[:, :, row - 1 : row] if row else None
            verticals = self._vertical_row(layers, caches, above, row)
            for column in range(width):
                right = self._pixel(layers, caches, verticals, x, row, column)
                x[:, :, row, column] = logistic_mixture.draw(self.leave(right), channels, generator, temperature)
        return x

    def _vertical_row(
        self, layers: list[GatedLayer], caches: list[RowCache], above: Tensor | None, row: int
    ) -> list[Tensor]:
        """One row of the vertical stack: for each layer what it hands to the horizontal stack, ``(n, 2 width, W)``."""
        if above is not None:
            caches[0].rows[:, :, row - 1] = _with_ones(above)[:, :, 0]
        handed = []
        for index, layer in enumerate(layers):
            vertical = layer.vertical_row(caches[index].rows, row)
            handed.append(F.conv1d(vertical, layer.across.weight[:, :, 0], layer.across.bias))
            if index + 1 < len(layers):
                caches[index + 1].rows[:, :, row] = gate(vertical)
        return handed

    def _pixel(
        self, layers: list[GatedLayer], caches: list[RowCache], handed: list[Tensor], x: Tensor, row: int, column: int
    ) -> Tensor:
        """One pixel of the horizontal stack, ``(n, width)``; each layer reads its input to the left from the cache."""
        if column:
            caches[0].left[:, :, column - 1] = _with_ones(x[:, :, row : row + 1, column - 1 : column])[:, :, 0, 0]
        right = x.new_zeros(0)
        for index, layer in enumerate(layers):
            if index:
                caches[index].left[:, :, column] = right
            new = layer.horizontal_pixel(caches[index].left, column, handed[index][:, :, column])
            right = new + right if index else new + self.place[:, row, column]
        return right


class RowCache:
    """The inputs of one layer so far: all rows of its vertical stack, and the present row of its horizontal stack."""

    def __init__(self, n: int, channels: int, space: ImageSpace, device: torch.device) -> None:
        self.rows = torch.zeros(n, channels, space.height, space.width, device=device)
        self.left = torch.zeros(n, channels, space.width, device=device)


class GatedLayer(nn.Module):
    """One layer of both stacks: ``(down, right), each (B, inputs, H, W) -> (down, right), each (B, width, H, W)``.

    Vertical: 2 rows by 3 columns, of which the lower is the pixel's own row (of the first layer: the row above it). Horizontal:
    the pixel and its left neighbour (first layer: the two to its left), plus the vertical stack through a 1 x 1 convolution; with
    a residual connection but in the first layer. What the vertical stack holds at a row must never leave the rows above: the
    first layer takes care of that.
    """

    def __init__(self, inputs: int, width: int, *, first: bool = False, dilation: int = 1) -> None:
        super().__init__()
        self.first, self.dilation = first, dilation
        self.down = nn.Conv2d(inputs, 2 * width, (2, 3), dilation=dilation)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.right = nn.Conv2d(inputs, 2 * width, (1, 2), dilation=(1, dilation))
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        reach = self.dilation
        extra = int(self.first)
        vertical = self.down(F.pad(down, (reach, reach, reach + extra, 0))[:, :, : down.shape[2] + reach])
        horizontal = self.right(F.pad(right, (reach + extra, 0))[:, :, :, : right.shape[3] + reach])
        new = self.out(gate(horizontal + self.across(vertical)))
        return gate(vertical), new if self.first else right + new

    def vertical_row(self, rows: Tensor, row: int) -> Tensor:
        """Row ``row`` of the vertical convolution, ``(n, 2 width, W)``, from the layer's inputs ``(n, inputs, H, W)``."""
        lower = row - int(self.first)
        upper = lower - self.dilation
        assert self.down.bias is not None
        result = rows.new_zeros(()) + self.down.bias[:, None]
        for tap, source in enumerate((upper, lower)):
            if source >= 0:
                line = rows[:, :, source]
                result = result + F.conv1d(
                    line, self.down.weight[:, :, tap], padding=self.dilation, dilation=self.dilation
                )
        return result.expand(len(rows), -1, rows.shape[3])

    def horizontal_pixel(self, left: Tensor, column: int, handed: Tensor) -> Tensor:
        """Pixel ``column`` of the present row, ``(n, width)``, from the layer's inputs in it ``(n, inputs, W)``."""
        near = column - int(self.first)
        far = near - self.dilation
        assert self.right.bias is not None
        result = handed + self.right.bias
        for tap, source in enumerate((far, near)):
            if source >= 0:
                result = result + left[:, :, source] @ self.right.weight[:, :, 0, tap].T
        return F.linear(gate(result), self.out.weight[:, :, 0, 0], self.out.bias)


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of the two halves a, b of the channels."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def _with_ones(x: Tensor) -> Tensor:
    """A further channel of ones, by which a convolution can tell the border from a grey pixel."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)
