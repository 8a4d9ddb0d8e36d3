"""Invertible layers for normalizing flows: each maps x to y of the same shape and knows log |det dy/dx|.

``layer(x) -> (y, log_det)`` with log_det ``(B,)`` in nats, ``layer.inverse(y) -> x``. x is ``(B, C)`` or ``(B, C, H, W)``, float32:
only the networks inside couplings run in the precision of autocast, so that densities stay exact to float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.embedding import zero
from reference_models.networks.spline import parameters_per_value, rational_quadratic
from reference_models.networks.unet import fold, unfold

MOST_SCALE = 2.0  # a coupling scales by at most e^2 either way


class Bijection(nn.Module):
    """An invertible layer. ``initialise(x)`` may set weights from the first batch; it returns the layer's output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def initialise(self, x: Tensor) -> Tensor:
        return self(x)[0]


class Chain(Bijection):
    """One bijection after the other."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            y = layer.inverse(y)  # type: ignore[operator]
        return y

    def initialise(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.initialise(x)  # type: ignore[operator]
        return x


class ActNorm(Bijection):
    """Scale and shift of each channel, set by the first batch so that its output has mean 0 and variance 1 ("Glow", 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (x + _per_channel(self.shift, x)) * _per_channel(self.log_scale.exp(), x)
        return y, (self.log_scale.sum() * _positions(x)).expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return y * _per_channel((-self.log_scale).exp(), y) - _per_channel(self.shift, y)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        values = x.transpose(0, 1).flatten(1)
        self.shift.copy_(-values.mean(1))
        if values.shape[1] > 1:  # one value has no spread
            self.log_scale.copy_(-(values.std(1, correction=0) + 1e-3).log())
        return self(x)[0]


class Mixing(Bijection):
    """A learned linear map of the channels, the 1 x 1 convolution of "Glow" (3.2), as P L (U + diag(s)) with fixed P.

    The log determinant is the sum of log |s| at each position; the inverse solves two triangular systems. Starts as a random
    rotation.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation.argmax(1))  # row i of the product is row permutation[i] of L U
        self.register_buffer("signs", diagonal.sign().to(torch.int8))
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L with a diagonal of ones, and U with the diagonal s."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), device=self.lower.device)
        return lower, self.upper.triu(1) + torch.diag(self.signs * self.log_diagonal.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self.factors()
            y = _linear(x, (lower @ upper)[self.permutation])
        return y, (self.log_diagonal.sum() * _positions(x)).expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            lower, upper = (factor.double() for factor in self.factors())
            eye = torch.eye(len(lower), dtype=torch.float64, device=y.device)[self.permutation.argsort()]
            matrix = torch.linalg.solve_triangular(
                upper, torch.linalg.solve_triangular(lower, eye, upper=False), upper=True
            )
            return _linear(y, matrix.to(y.dtype))


class Coupling(Bijection):
    """Transforms some channels elementwise, by parameters that a network computes from the others, which stay as they are.

    mask: one bool a channel, True for those that stay. network: ``(B, kept, ...) -> (B, changed * transform.size, ...)``, zero at
    first, where every transform is the identity.
    """

    order: Tensor
    back: Tensor

    def __init__(self, mask: Sequence[bool], network: nn.Module, transform: Affine | Spline) -> None:
        super().__init__()
        order = [i for i, stays in enumerate(mask) if stays] + [i for i, stays in enumerate(mask) if not stays]
        self.kept = sum(mask)
        self.network, self.transform = network, transform
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed = self._split(x)
        changed, log_slope = self.transform(changed, self._numbers(kept, changed))
        return self._join(kept, changed), log_slope.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        kept, changed = self._split(y)
        changed, _ = self.transform(changed, self._numbers(kept, changed), inverse=True)
        return self._join(kept, changed)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.index_select(1, self.order)
        return x[:, : self.kept], x[:, self.kept :]

    def _join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([kept, changed], 1).index_select(1, self.back)

    def _numbers(self, kept: Tensor, changed: Tensor) -> Tensor:
        """``(B, changed, ..., size)`` float32."""
        raw = self.network(kept).to(kept.dtype)
        return raw.unflatten(1, (changed.shape[1], self.transform.size)).movedim(2, -1)


class Affine:
    """y = exp(s) x + t; s and t are bounded and free."""

    size = 2

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        log_scale, shift = MOST_SCALE * (raw[..., 0] / MOST_SCALE).tanh(), raw[..., 1]
        if inverse:
            return (x - shift) * (-log_scale).exp(), -log_scale
        return x * log_scale.exp() + shift, log_scale


class Spline:
    """The rational-quadratic spline with ``bins`` pieces on [-bound, bound], the identity outside."""

    def __init__(self, bins: int, bound: float) -> None:
        self.bound, self.size = bound, parameters_per_value(bins)

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        return rational_quadratic(x, raw, self.bound, inverse=inverse)


class MultiScale(nn.Module):
    """The multi-scale architecture of "RealNVP" (3.6): fold 2 x 2 pixels into channels, transform, give half of them away, repeat.

    ``(B, C, H, W) -> ((B, C H W) codes, (B,) log_det)``. levels: the bijection of each scale, of ``4 C, 8 C, 16 C ...`` channels on a map
    of half the side each time. priors: for each level but the last a coupling-like network that standardises the half
    given away by a mean and scale computed from the half that goes on, or None.
    """

    def __init__(
        self, shape: tuple[int, int, int], levels: Sequence[Bijection], priors: Sequence[nn.Module] | None
    ) -> None:
        super().__init__()
        self.shape = shape
        self.levels = nn.ModuleList(levels)
        self.priors = None if priors is None else nn.ModuleList(priors)
        self.affine = Affine()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes, total = [], x.new_zeros(len(x))
        for index, level in enumerate(self.levels):
            x, log_det = level(fold(x, 2))
            total = total + log_det
            if index < len(self.levels) - 1:
                x, given = x.chunk(2, 1)
                if self.priors is not None:
                    given, log_slope = self.affine(given, self._prior(index, x, given))
                    total = total + log_slope.flatten(1).sum(1)
                codes.append(given.flatten(1))
        return torch.cat([*codes, x.flatten(1)], 1), total

    def inverse(self, z: Tensor) -> Tensor:
        shapes = self.code_shapes()
        codes = [code.unflatten(1, shape) for code, shape in zip(z.split([_size(s) for s in shapes], 1), shapes)]
        x = codes[-1]
        for index in reversed(range(len(self.levels))):
            if index < len(self.levels) - 1:
                given = codes[index]
                if self.priors is not None:
                    given, _ = self.affine(given, self._prior(index, x, given), inverse=True)
                x = torch.cat([x, given], 1)
            x = unfold(self.levels[index].inverse(x), 2)  # type: ignore[operator]
        return x

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        for index, level in enumerate(self.levels):
            x = level.initialise(fold(x, 2))  # type: ignore[operator]
            if index < len(self.levels) - 1:
                x = x.chunk(2, 1)[0]

    def code_shapes(self) -> list[tuple[int, int, int]]:
        """``(channels, height, width)`` of the part of the code that each level gives away."""
        channels, height, width = self.shape
        shapes = []
        for index in range(len(self.levels)):
            channels, height, width = 4 * channels, height // 2, width // 2
            if index < len(self.levels) - 1:
                channels //= 2
            shapes.append((channels, height, width))
        return shapes

    def _prior(self, index: int, kept: Tensor, given: Tensor) -> Tensor:
        assert self.priors is not None
        raw = self.priors[index](kept).to(kept.dtype)
        return raw.unflatten(1, (given.shape[1], self.affine.size)).movedim(2, -1)


def conv_net(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """The network of a coupling on feature maps: 3 x 3, 1 x 1, 3 x 3 convolutions ("Glow", appendix B), zero at first."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        zero(nn.Conv2d(width, outputs, 3, padding=1)),
    )


def dense_net(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """The network of a coupling on vectors, zero at first."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), zero(nn.Linear(width, outputs))
    )


def checkerboard(channels: int, parity: int) -> list[bool]:
    """The mask of a checkerboard over pixels, where 2 x 2 of them were folded into 4 channels: pixel (i, j) stays if i + j is ``parity`` mod 2."""
    return [(i + j) % 2 == parity for _ in range(channels // 4) for i in (0, 1) for j in (0, 1)]


def halves(channels: int, parity: int) -> list[bool]:
    """The first half of the channels stays (parity 0), or the second (parity 1)."""
    return [(i < channels // 2) == (parity == 0) for i in range(channels)]


def alternating(channels: int, parity: int) -> list[bool]:
    """Every other channel stays."""
    return [i % 2 == parity for i in range(channels)]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _positions(x: Tensor) -> int:
    """Positions of a feature map; 1 for vectors."""
    return _size(tuple(x.shape[2:]))


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _linear(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix) if x.ndim == 2 else F.conv2d(x, matrix[:, :, None, None])
