"""What normalizing flows share: data -> code through invertible layers, and so a density that is known exactly.

log p(x) = log N(f(x); 0, I) + log |det df/dx|

Images are whole numbers, and a density over real numbers could grow without bound on them. So uniform noise fills each
level's bin (dequantisation), and the mean log density is a lower bound of the log probability of the levels ("A note on the
evaluation of generative models", 2015, arXiv 1511.01844, 3.1). A logit then takes (0, 1) to the line ("RealNVP", 4.1).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.gaussian_mixture import kmeans, nearest
from reference_models.networks.conv import halvings
from reference_models.networks.invertible import Chain, MultiScale, conv_net, dense_net
from reference_models.options import at_least_one, given, positive
from reference_models.schedules import set_learning_rate

LEVELS = 256
MARGIN = 0.05  # the logit sees [0.05, 0.95], so that it stays finite
NLL_DRAWS = 4
LARGEST_GRADIENT = 10.0

MakeNet = Callable[[int, int], nn.Module]


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """``None`` means: chosen from the space. layers: couplings of each scale (vectors: of the whole). width: hidden channels of the
    coupling networks. components: Gaussians that the code is a mixture of, 1 for N(0, I); more let a smooth map reach modes
    that are apart ("Semi-Supervised Learning with Normalizing Flows", 2019, arXiv 1912.13025)."""

    layers: int | None = None
    width: int | None = None
    components: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        at_least_one(self, *given(self, "layers", "width", "components"))
        positive(self, *given(self, "learning_rate"))


class NormalizingFlow(GenerativeModel):
    """Base of the flows: a subclass gives the layers of one scale."""

    spaces = (ImageSpace, VectorSpace)
    Config: ClassVar[type] = FlowConfig
    split_priors: ClassVar[bool] = False
    default_layers: ClassVar[tuple[int, int]] = (6, 12)  # images, vectors
    default_width: ClassVar[tuple[int, int]] = (64, 128)
    default_components: ClassVar[tuple[int, int]] = (1, 32)
    default_learning_rate: ClassVar[tuple[float, float]] = (5e-3, 2e-3)
    initialised: Tensor

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        is_vector = isinstance(space, VectorSpace)
        self.learning_rate = self.config.learning_rate or self.default_learning_rate[is_vector]
        self.layers = self.config.layers or self.default_layers[is_vector]
        width = self.config.width or self.default_width[is_vector]
        if isinstance(space, ImageSpace):
            count = halvings(space)
            if count == 0:
                raise BenchError(
                    f"{type(self).__name__} needs even sides of at least 8 pixels, but the data set holds {space}"
                )
            channels = [4 * space.channels * 2**level for level in range(count)]

            def net(inputs: int, outputs: int) -> nn.Module:
                return conv_net(inputs, outputs, width)

            levels = [self.level(size, self.layers, net) for size in channels]
            priors = [conv_net(size // 2, size, width) for size in channels[:-1]] if self.split_priors else None
            self.network: nn.Module = MultiScale(space.shape, levels, priors)  # type: ignore[arg-type]
        else:
            if space.dimensions < 2:
                raise BenchError(f"{type(self).__name__} splits each vector in two, but the data set holds {space}")
            self.network = self.level(
                space.dimensions, self.layers, lambda inputs, outputs: dense_net(inputs, outputs, width)
            )
        components = self.config.components or self.default_components[is_vector]
        self.base = MixtureBase(components, space.dimensions) if components > 1 else StandardNormal(space.dimensions)
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self._ready = False
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    def level(self, channels: int, layers: int, net: MakeNet) -> Chain:
        """The bijection of one scale, of ``layers`` couplings. net: makes a coupling's network from its input and output channels."""
        raise NotImplementedError

    @property
    def nll_kind(self) -> Literal["exact", "upper_bound", "estimate"]:
        """Exact for vectors; for images the mean over dequantisation noise bounds it from above."""
        return "exact" if isinstance(self.space, VectorSpace) else "upper_bound"

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.learning_rate, progress)
        noise = torch.rand_like(batch.x) if isinstance(self.space, ImageSpace) else None
        self._initialise(batch.x, noise)
        loss = self.negative_log_density(batch.x, noise).mean() / self.space.dimensions
        self.descend(loss, self.optimizer, longest=LARGEST_GRADIENT)
        return {"nll": loss.detach()}

    def negative_log_density(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """-log p in nats, ``(B,)``. noise: for images, what fills the bins, in [0, 1) and of x's shape; None for vectors."""
        y, log_det = dequantised(x, noise) if noise is not None else (x, x.new_zeros(len(x)))
        z, more = self.network(y)
        return -(self.base.log_density(z) + log_det + more)

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """-log p(x) in nats, ``(B,)``. Images: a mean over 4 patterns of noise, a quarter of a bin apart and the same for every x."""
        if isinstance(self.space, VectorSpace):
            return self.negative_log_density(x, None)
        pattern = torch.rand(self.space.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
        draws = [
            self.negative_log_density(x, ((pattern + shift / NLL_DRAWS) % 1.0).expand_as(x))
            for shift in range(NLL_DRAWS)
        ]
        return torch.stack(draws).mean(0)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """``temperature`` (1.0) scales the standard deviation of the code; below 1 samples are likelier and less diverse."""
        return self.decode(self.base.sample(generator, float(options.get("temperature", 1.0))))

    def encode(self, x: Tensor) -> Tensor:
        """The code ``(B, d)`` of x, where each level stands for the middle of its bin."""
        y = dequantised(x, torch.full_like(x, 0.5))[0] if isinstance(self.space, ImageSpace) else x
        return self.network(y)[0]

    def decode(self, z: Tensor) -> Tensor:
        x = self.network.inverse(z)  # type: ignore[operator]
        return quantisable(x) if isinstance(self.space, ImageSpace) else x

    def _initialise(self, x: Tensor, noise: Tensor | None) -> None:
        if not self._ready and not bool(self.initialised):
            with torch.no_grad():
                y = dequantised(x, noise)[0] if noise is not None else x
                self.network.initialise(y)  # type: ignore[operator]
                self.base.initialise(self.network(y)[0])
            self.initialised.fill_(True)
        self._ready = True


class StandardNormal(nn.Module):
    """N(0, I) in ``size`` dimensions: what codes follow."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def log_density(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(1) - 0.5 * self.size * math.log(2 * math.pi)

    def sample(self, generator: SampleGenerator, temperature: float = 1.0) -> Tensor:
        return temperature * generator.randn(self.size)

    def initialise(self, z: Tensor) -> None:
        pass


class MixtureBase(nn.Module):
    """A learned mixture of ``components`` Gaussians with diagonal covariances, started on clusters of the first batch."""

    def __init__(self, components: int, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, size))
        self.log_scales = nn.Parameter(torch.zeros(components, size))

    def log_density(self, z: Tensor) -> Tensor:
        standard = (z[:, None] - self.means) * (-self.log_scales).exp()
        each = -0.5 * (standard.square() + math.log(2 * math.pi)) - self.log_scales
        return (F.log_softmax(self.logits, 0) + each.sum(2)).logsumexp(1)

    def sample(self, generator: SampleGenerator, temperature: float = 1.0) -> Tensor:
        component = generator.categorical(self.logits.expand(generator.n, -1))
        return self.means[component] + temperature * self.log_scales[component].exp() * generator.randn(
            self.means.shape[1]
        )

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        count = min(len(self.means), len(z))
        centres = kmeans(z, count)
        distance = (z - centres[nearest(z, centres)]).square().mean().sqrt()
        self.means[:count] = centres
        self.log_scales.fill_(float(distance.clamp_min(1e-2).log()))


def dequantised(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Levels ``k / 127.5 - 1`` and noise in [0, 1) -> logit of (k + noise) / 256, and log |det| ``(B,)`` from k + noise to it.

    The bins of k + noise have width 1, so a density there, averaged over the noise, is a probability of levels.
    """
    level = ((x + 1) * 127.5).round()
    share = MARGIN + (1 - 2 * MARGIN) * (level + noise) / LEVELS
    y = share.log() - torch.log1p(-share)
    each = math.log((1 - 2 * MARGIN) / LEVELS) + F.softplus(y) + F.softplus(-y)
    return y, each.flatten(1).sum(1)


def quantisable(y: Tensor) -> Tensor:
    """The inverse: to [-1, 1], where rounding to 255 steps gives the level whose bin y lies in."""
    share = ((y.sigmoid() - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)
    return ((LEVELS * share - 0.5) / 127.5 - 1).clamp(-1, 1)
