"""From pixels to a network: what all image extractors share (resize, normalise, run, in exact float32)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.exact import exact_float32
from bench.features.base import Extractor
from bench.features.resize import ResizeMode, check_mode, resize

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of torchvision's convention, in grey levels
IMAGENET_STD = (58.395, 57.12, 57.375)

_CPU_BATCH = 16  # larger batches leave a CPU's caches and make the allocator return memory between layers: slower


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3, as in TensorFlow's networks), activation.

    ``fold`` puts the norm into the convolution's weights: the same function with one pass over memory less.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0,
        groups: int = 1, activation: type[nn.Module] = nn.ReLU,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activation = nn.Identity() if activation is nn.Identity else activation(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))

    def fold(self) -> None:
        """Fold the norm's statistics (eval mode) into the convolution, in float64."""
        if isinstance(self.bn, nn.BatchNorm2d):
            fused = nn.utils.fusion.fuse_conv_bn_eval(self.conv.eval().double(), self.bn.eval().double())
            self.conv, self.bn = fused.float(), nn.Identity()


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold every ``ConvNorm`` of ``network``, in place; features change by about 1e-6 relative."""
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            module.fold()
    return network


class NetworkExtractor(Extractor):
    """Resize to a square, subtract ``mean``, divide by ``std`` (grey levels), run a network that returns named layers.

    network: float32 ``(B, 3, side, side)`` -> layer name -> ``(B, width)``.
    sides: (smallest, largest) input side: an image whose longer side lies between them is taken at that size, others are
        resized to the nearer end; equal ends fix the side.
    fingerprint: what identifies the network's weights, in ``version``.
    """

    mode: ResizeMode
    fingerprint: str

    def __init__(
        self, name: str, network: nn.Module, layers: dict[str, int], *, fingerprint: str, sides: tuple[int, int],
        mean: float | Sequence[float], std: float | Sequence[float], mode: ResizeMode = "clean",
    ) -> None:  # fmt: skip
        check_mode(mode)
        if not 1 <= sides[0] <= sides[1]:
            raise BenchError(
                f"extractor {name}: the input side must be at least 1 pixel, got {sides}; give a positive side"
            )
        self.name, self.layers, self.sides = name, dict(layers), sides
        self.mode, self.fingerprint = mode, fingerprint
        self.device = torch.device("cpu")
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._mean, self._std = _per_channel(mean), _per_channel(std)
        side = f"{sides[0]}" if sides[0] == sides[1] else f"{sides[0]}-{sides[1]}"
        self.version = f"{name} weights={fingerprint} resize={mode} side={side} mean={mean} std={std} float32"

    def to(self, device: torch.device | str) -> NetworkExtractor:
        self.device = torch.device(device)
        self.network.to(self.device)
        self._mean, self._std = self._mean.to(self.device), self._std.to(self.device)
        return self

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        check_images(images)
        pieces = images.split(_CPU_BATCH) if images.device.type == "cpu" else (images,)
        with torch.inference_mode(), exact_float32():
            features = [self.run(self.pixels(piece)) for piece in pieces]
        return {layer: torch.cat([piece[layer].float() for piece in features]) for layer in self.layers}

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 ``(B, H, W, C)`` -> what the network reads: float32 ``(B, 3, side, side)``, normalised."""
        smallest, largest = self.sides
        side = min(max(images.shape[1], images.shape[2], smallest), largest)
        planes = resize(images, side, self.mode).expand(-1, 3, -1, -1)
        planes = planes.contiguous(memory_format=torch.channels_last)
        return planes.sub_(self._mean).div_(self._std)

    def run(self, pixels: Tensor) -> dict[str, Tensor]:
        """The network on normalised pixels, layer by layer."""
        return self.network(pixels)


def check_images(images: Tensor) -> None:
    """Raises BenchError unless ``images`` is uint8 ``(B, H, W, C)`` with C 1 or 3."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise BenchError(
            f"an extractor reads uint8 images of shape (B, H, W, 1 or 3), got {images.dtype} {tuple(images.shape)}; convert them first"
        )


def pool(maps: Tensor) -> Tensor:
    """Mean over the two spatial dimensions, ``(B, C, h, w)`` -> ``(B, C)``."""
    return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def _per_channel(value: float | Sequence[float]) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device="cpu").reshape(-1, 1, 1)
