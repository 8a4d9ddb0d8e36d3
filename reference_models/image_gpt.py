"""Image GPT: a causal transformer reads an image patch by patch; within a patch a small masked network goes pixel by pixel.

A sequence of all pixels would be 1024 long at 32 x 32, and attention grows with its square. So the sequence is one of patches,
and the pixels of a patch are drawn one after another given the transformer's output there: the product is still an exact
autoregressive probability of every 8-bit level. ``patch = 1`` is the original, a sequence of pixels.
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
from reference_models.networks.unet import fold, unfold
from reference_models.schedules import set_learning_rate

LARGEST_GRADIENT = 1.0
GRID = 8  # patches a side that a default aims at


class ImageGPT(GenerativeModel):
    """Decoder transformer over patches, masked network over the pixels of each: exact bits per dimension, cached sampling."""

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
        units of each pixel in the masked network. components: logistics mixed for each pixel."""

        width: int = 128
        depth: int = 4
        heads: int = 4
        patch: int | None = None
        local: int = 32
        components: int = 6
        learning_rate: float = 2e-3

        def __post_init__(self) -> None:
            for name in ("width", "depth", "heads", "patch", "local", "components"):
                value = getattr(self, name)
                if value is not None and value < 1:
                    raise ValueError(f"{name} must be at least 1, got {value}")
            if self.width % self.heads:
                raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
            if self.learning_rate <= 0:
                raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

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
        self.places = nn.Parameter(0.02 * torch.randn(self.length, c.width))
        self.blocks = nn.ModuleList(Block(c.width, c.heads, 0, None) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        count = logistic_mixture.outputs(space.channels, c.components)
        self.local = PixelOrder(c.width, self.pixels, space.channels, c.local, count)
        self.optimizer = torch.optim.AdamW(self.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        loss = self.negative_log_probability(batch.x).mean() / self.space.dimensions
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return {"nll": loss.detach()}

    def patches(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, length, pixels, C)``, patches and their pixels in reading order."""
        folded = fold(x, self.patch).unflatten(1, (self.channels, self.pixels))
        return folded.flatten(3).permute(0, 3, 2, 1)

    def image(self, patches: Tensor) -> Tensor:
        """The inverse of ``patches``."""
        assert isinstance(self.space, ImageSpace)
        rows, columns = self.space.height // self.patch, self.space.width // self.patch
        folded = patches.permute(0, 3, 2, 1).flatten(1, 2).unflatten(2, (rows, columns))
        return unfold(folded, self.patch)

    def parameters_of_pixels(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, length, pixels, outputs)``: of each pixel's distribution, given the pixels before it."""
        patches = self.patches(x)
        before = self.enter(patches[:, :-1].flatten(2))
        h = torch.cat([self.start.expand(len(x), 1, -1).to(before.dtype), before], 1) + self.places
        for block in self.blocks:
            h = block(h, None, None, None)
        return self.local(self.norm(h), patches)

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
        temperature = float(options.get("temperature", 1.0))
        cache = Cache(self.length, len(self.blocks))
        entered = self.start.expand(n, -1)
        drawn: list[Tensor] = []
        for position in range(self.length):
            h = (entered + self.places[position])[:, None]
            for index, block in enumerate(self.blocks):
                h = block(h, None, None, cache.layer(index))
            cache.filled += 1
            patch = self.local.sample(self.norm(h)[:, 0], generator, temperature)
            drawn.append(patch)
            entered = self.enter(patch.flatten(1))
        return self.image(torch.stack(drawn, 1))


class PixelOrder(nn.Module):
    """A masked perceptron with two hidden layers: what it says of pixel i depends on the context and on pixels before i only.

    ``(B, P, width) context, (B, P, pixels, C) -> (B, P, pixels, outputs)``. Every pixel has ``local`` units in each hidden layer; weights from
    later pixels are masked out ("MADE", 2015, arXiv 1502.03509). The last layer is shared by all pixels.
    """

    before: Tensor
    until: Tensor

    def __init__(self, width: int, pixels: int, channels: int, local: int, outputs: int) -> None:
        super().__init__()
        self.pixels, self.channels, self.units = pixels, channels, local
        hidden = pixels * local
        self.context = nn.Linear(width, 2 * hidden)
        self.first = nn.Linear(pixels * channels, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden, bias=False)
        self.leave = zero(nn.Linear(local, outputs))
        self.bias = nn.Parameter(torch.zeros(pixels, outputs))
        nn.init.normal_(self.second.weight, std=(2 / hidden) ** 0.5)
        order = torch.arange(pixels)
        earlier = (order[None] < order[:, None]).float()  # row i: the pixels before i
        not_later = (order[None] <= order[:, None]).float()
        self.register_buffer("before", _blocks(earlier, local, channels), persistent=False)
        self.register_buffer("until", _blocks(not_later, local, local), persistent=False)

    def forward(self, context: Tensor, patches: Tensor) -> Tensor:
        one, two = self.context(context).chunk(2, -1)
        h = F.gelu(one + F.linear(patches.flatten(2), self.first.weight * self.before))
        h = F.gelu(two + F.linear(h, self.second.weight * self.until))
        return self.leave(h.unflatten(-1, (self.pixels, self.units))) + self.bias

    def sample(self, context: Tensor, generator: SampleGenerator, temperature: float) -> Tensor:
        """``(n, width) -> (n, pixels, C)``; pixel i reads what earlier ones left in ``h``."""
        one, two = self.context(context).chunk(2, -1)
        h = torch.zeros_like(one)
        x = torch.zeros(len(context), self.pixels * self.channels, device=context.device)
        for pixel in range(self.pixels):
            units = slice(pixel * self.units, (pixel + 1) * self.units)
            known, end = pixel * self.channels, units.stop
            h[:, units] = F.gelu(one[:, units] + x[:, :known] @ self.first.weight[units, :known].T)
            top = F.gelu(two[:, units] + h[:, :end] @ self.second.weight[units, :end].T)
            raw = self.leave(top) + self.bias[pixel]
            x[:, known : known + self.channels] = logistic_mixture.draw(raw, self.channels, generator, temperature)
        return x.unflatten(1, (self.pixels, self.channels))


def _blocks(mask: Tensor, rows: int, columns: int) -> Tensor:
    """Every entry of a mask as a block of ``rows`` by ``columns``."""
    return mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)


def default_patch(space: ImageSpace) -> int:
    """The largest of 1, 2, 4 ... that divides both sides and leaves at least 8 patches along the shorter one."""
    patch = 1
    while min(space.height, space.width) >= 2 * GRID * patch and not (
        space.height % (2 * patch) or space.width % (2 * patch)
    ):
        patch *= 2
    return patch
