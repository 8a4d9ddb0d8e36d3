"""Image GPT: a causal transformer reads an image patch by patch; within a patch a small local network goes pixel by pixel.

A sequence of all pixels would be 1024 long at 32 x 32, and attention grows with its square. So the sequence is one of patches,
and the pixels of a patch are drawn one after another given the transformer's output there and the pixels drawn nearby: the
product is still an exact autoregressive probability of every 8-bit level. ``patch = 1`` is a sequence of pixels, as in the paper.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models import logistic_mixture
from reference_models.networks.embedding import zero
from reference_models.networks.transformer import Block, Cache
from reference_models.networks.unet import fold
from reference_models.options import at_least_one, given, positive
from reference_models.schedules import set_learning_rate

LARGEST_GRADIENT = 1.0
ABOVE, BESIDE = 3, 3
WINDOW = (ABOVE + 1, 2 * BESIDE + 1)  # rows and columns that a pixel's local network may look at
GRID = 8  # patches a side that a default aims at


class ImageGPT(GenerativeModel):
    """Decoder transformer over patches, local network over the pixels of each: exact bits per dimension, cached sampling."""

    family = "autoregressive"
    paper = (
        "Generative Pretraining from Pixels, Chen et al., ICML 2020; patches with a local decoder: MEGABYTE, 2023, arXiv "
        "2305.07185; mixture of logistics: PixelCNN++, 2017, arXiv 1701.05517"
    )
    known_failures = (
        "Seams between patches and shapes that do not close while it is trained too little. With enough steps on few images it "
        "memorises them: watch the test likelihood."
    )
    spaces = (ImageSpace,)
    nll_kind: ClassVar[Literal["exact", "upper_bound", "estimate"]] = "exact"

    @dataclasses.dataclass(frozen=True)
    class Config:
        """width, depth, heads: of the transformer. patch: side of the pixel squares, None: an eighth of the image's. local: hidden
        units of the network that draws a pixel. components: logistics mixed for each pixel."""

        width: int = 96
        depth: int = 3
        heads: int = 4
        patch: int | None = None
        local: int = 64
        components: int = 6
        learning_rate: float = 3e-3

        def __post_init__(self) -> None:
            at_least_one(self, *given(self, "width", "depth", "heads", "patch", "local", "components"))
            if self.width % self.heads:
                raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
            positive(self, "learning_rate")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        assert isinstance(space, ImageSpace)
        c = self.config
        self.patch = c.patch or default_patch(space)
        if space.height % self.patch or space.width % self.patch:
            raise BenchError(f"patch must divide both sides, but is {self.patch} and the data set holds {space}")
        self.pixels, self.channels = self.patch**2, space.channels
        self.length = space.height * space.width // self.pixels
        values = self.pixels * space.channels
        self.enter = nn.Sequential(nn.Linear(values, 2 * c.width), nn.GELU(), nn.Linear(2 * c.width, c.width))
        self.start = nn.Parameter(torch.zeros(c.width))
        self.places = nn.Parameter(0.5 * torch.randn(self.length, c.width))  # not drowned by the patches
        self.blocks = nn.ModuleList(Block(c.width, c.heads, 0, None) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        count = logistic_mixture.outputs(space.channels, c.components)
        self.local = LocalWindow(c.width, self.patch, space.channels, c.local, count)
        self.optimizer = torch.optim.AdamW(self.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        loss = self.negative_log_probability(batch.x).mean() / self.space.dimensions
        self.descend(loss, self.optimizer, longest=LARGEST_GRADIENT)
        return {"nll": loss.detach()}

    def patches(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, length, pixels, C)``, patches and their pixels in reading order."""
        folded = fold(x, self.patch).unflatten(1, (self.channels, self.pixels))
        return folded.flatten(3).permute(0, 3, 2, 1)

    def parameters_of_pixels(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, length, pixels, outputs)``: of each pixel's distribution, given the pixels before it."""
        patches = self.patches(x)
        before = self.enter(patches[:, :-1].flatten(2))
        h = torch.cat([self.start.expand(len(x), 1, -1).to(before.dtype), before], 1) + self.places
        for block in self.blocks:
            h = block(h, None, None, None)
        return self.local(self.norm(h), x)

    def negative_log_probability(self, x: Tensor) -> Tensor:
        return -logistic_mixture.log_probability(self.patches(x), self.parameters_of_pixels(x)).sum((1, 2))

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """-log P of the 8-bit levels in nats, exact, ``(B,)``."""
        return self.negative_log_probability(x)

    @property
    def nfe(self) -> int:
        """One evaluation of the transformer a patch."""
        return self.length

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Patch by patch from a cache of keys and values. ``temperature`` (1.0): below 1 likelier and less diverse."""
        assert isinstance(self.space, ImageSpace)
        temperature, side = float(options.get("temperature", 1.0)), self.patch
        cache = Cache(self.length, len(self.blocks))
        canvas = self.local.canvas(torch.zeros(n, *self.space.shape, device=self.device))
        x = canvas[:, : self.channels, ABOVE:, BESIDE : BESIDE + self.space.width]
        entered = self.start.expand(n, -1)
        for position in range(self.length):
            h = (entered + self.places[position])[:, None]
            for index, block in enumerate(self.blocks):
                h = block(h, None, None, cache.layer(index))
            cache.filled += 1
            row, column = (side * place for place in divmod(position, self.space.width // side))
            self.local.draw(self.norm(h)[:, 0], canvas, row, column, generator, temperature)
            patch = x[:, :, row : row + side, column : column + side]
            entered = self.enter(patch.permute(0, 2, 3, 1).flatten(1))
        return x.clone()


class LocalWindow(nn.Module):
    """What each pixel's distribution is made of: the transformer's word for its patch, and the pixels nearby that are drawn already.

    ``(B, P, width) context, (B, C, H, W) image -> (B, P, pixels, outputs)``. The window reaches 3 rows up and 3 columns to either side; of
    it a pixel sees what precedes it: all above the row of patches, the patches to the left, the earlier pixels of its own
    patch. All pixels share the weights.
    """

    seen: Tensor

    def __init__(self, width: int, patch: int, channels: int, units: int, outputs: int) -> None:
        super().__init__()
        self.patch, self.pixels, self.channels, self.units = patch, patch**2, channels, units
        self.context = nn.Linear(width, self.pixels * units)
        self.window = nn.Linear((channels + 1) * WINDOW[0] * WINDOW[1], units, bias=False)
        self.hidden = nn.Linear(units, units)
        self.leave = zero(nn.Linear(units, outputs))
        self.register_buffer("seen", _seen(patch).repeat(1, channels + 1), persistent=False)

    def forward(self, context: Tensor, x: Tensor) -> Tensor:
        windows = F.unfold(self.canvas(x), WINDOW).unflatten(2, (x.shape[2], x.shape[3]))
        rows = windows.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # (B, values, R, p, Q, p)
        near = rows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)  # (B, P, pixels, values)
        return self._outputs(self.context(context).unflatten(-1, (self.pixels, self.units)), near * self.seen)

    def canvas(self, x: Tensor) -> Tensor:
        """The image with a channel of ones, so that the border differs from grey, and zeros around it where windows reach out."""
        return F.pad(torch.cat([x, torch.ones_like(x[:, :1])], 1), (BESIDE, BESIDE, ABOVE, 0))

    def draw(
        self, context: Tensor, canvas: Tensor, row: int, column: int, generator: SampleGenerator, temperature: float
    ) -> None:
        """Draw the patch whose first pixel is at (row, column) into the canvas. context: ``(n, width)``."""
        words = self.context(context).unflatten(-1, (self.pixels, self.units))
        for pixel in range(self.pixels):
            i, j = row + pixel // self.patch, column + pixel % self.patch
            near = canvas[:, :, i : i + WINDOW[0], j : j + WINDOW[1]].flatten(1)
            raw = self._outputs(words[:, pixel], near * self.seen[pixel])
            value = logistic_mixture.draw(raw, self.channels, generator, temperature)
            canvas[:, : self.channels, ABOVE + i, BESIDE + j] = value

    def _outputs(self, word: Tensor, near: Tensor) -> Tensor:
        h = F.gelu(word + self.window(near))
        return self.leave(F.gelu(word + self.hidden(h)))


def _seen(patch: int) -> Tensor:
    """``(pixels, places of a window)``: 1 for every place of a pixel's window that is drawn before it, else 0."""
    seen = torch.zeros(patch**2, *WINDOW)
    for pixel in range(patch**2):
        row, column = divmod(pixel, patch)
        for i in range(WINDOW[0]):
            for j in range(WINDOW[1]):
                there = (row + i - ABOVE, column + j - BESIDE)
                in_own_patch = there[0] >= 0 and 0 <= there[1] < patch
                above_or_left = there[0] < 0 or there[1] < 0
                seen[pixel, i, j] = above_or_left or (in_own_patch and there < (row, column))
    return seen.flatten(1)


def default_patch(space: ImageSpace) -> int:
    """The largest of 1, 2, 4 ... that divides both sides and leaves at least 8 patches along the shorter one."""
    patch = 1
    while min(space.height, space.width) >= 2 * GRID * patch and not (
        space.height % (2 * patch) or space.width % (2 * patch)
    ):
        patch *= 2
    return patch
