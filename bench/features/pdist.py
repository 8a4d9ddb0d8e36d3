"""Perceptual distances between two images: LPIPS, and an uncalibrated one for where its weights cannot be had.

Both have the form of LPIPS: feature maps of several depths, each position's channels scaled to length one, weighted squared
differences, averaged over positions. That is a squared Euclidean distance between *embeddings*, which each image has by
itself: n images need n passes through the network, not one per pair.
"""

from __future__ import annotations

import abc
import functools
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from bench.errors import BenchError, did_you_mean
from bench.exact import exact_float32
from bench.features import effnetlite0
from bench.features.network import check_images
from bench.features.resize import resize
from bench.features.weights import (
    check_sha256,
    download_weights,
    find_weights,
    hub_folder,
    load_state_dict,
    load_strictly,
    sha256_of,
    without_weights,
)


class PerceptualDistance(abc.ABC):
    """A distance between images, 0 for equal ones.

    name: for measurement names. version: weights and preprocessing. calibrated: fitted to people's judgements or not;
    an uncalibrated distance orders corruptions, but its values mean nothing beside a calibrated one's.
    """

    paper: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    calibrated: ClassVar[bool]

    name: str
    version: str

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    @abc.abstractmethod
    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps ``(B, C, h, w)`` of each depth, of uint8 ``(B, H, W, C)``."""

    @abc.abstractmethod
    def weights(self) -> Sequence[Tensor | float]:
        """The weight of each channel of each depth, not negative: a number or ``(C, 1, 1)``."""

    @abc.abstractmethod
    def modules(self) -> Sequence[nn.Module]:
        """What ``to`` moves."""

    def to(self, device: torch.device | str) -> PerceptualDistance:
        self.device = torch.device(device)
        for module in self.modules():
            module.to(self.device)
        return self

    def embed(self, images: Tensor) -> Tensor:
        """uint8 ``(B, H, W, C)`` -> float32 ``(B, d)``; the distance of two images is the squared length between their rows.

        d grows with the image's area: some 10^5 numbers for 64 x 64 pixels.
        """
        check_images(images)
        return self._embedded(images)

    def of_pixels(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances ``(B,)`` of images that were not rounded to 8 bits: float ``(B, H, W, 1 or 3)``, grey levels from 0 to 255 (beyond
        them cut)."""
        return (self._embedded(first) - self._embedded(second)).square().sum(1)

    def _embedded(self, images: Tensor) -> Tensor:
        with torch.inference_mode(), exact_float32():
            parts = []
            for maps, weight in zip(self.maps(images), self.weights()):
                unit = maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
                positions = maps.shape[2] * maps.shape[3]
                parts.append((unit * (torch.as_tensor(weight, device=unit.device) / positions).sqrt()).flatten(1))
            return torch.cat(parts, 1)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances ``(B,)`` between the images at equal places of two batches of one size."""
        if first.shape != second.shape:
            raise BenchError(
                f"{self.name} compares images of one size, got {tuple(first.shape)} and {tuple(second.shape)}; resize them first"
            )
        return (self.embed(first) - self.embed(second)).square().sum(1)


class EfficientNetDistance(PerceptualDistance):
    """LPIPS form on EfficientNet-Lite0 blocks with equal weights: embedded, offline, not fitted to people's judgements.

    The mean over six depths, so values lie in [0, 4]; measured on 64 x 64 photographs, two different ones are about 1.4 apart.
    """

    paper: ClassVar[str] = (
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, arXiv 1801.03924 (its form)"
    )
    licence: ClassVar[str] = "Apache-2.0"
    calibrated: ClassVar[bool] = False

    BLOCKS = (0, 2, 4, 7, 10, 14)

    def __init__(self) -> None:
        super().__init__()
        self.name = "pdist_effnetlite0"
        self._extractor = effnetlite0.EfficientNetLite0Extractor()
        self.version = f"{self.name} blocks={self.BLOCKS} equal weights, {self._extractor.version}"

    def maps(self, images: Tensor) -> list[Tensor]:
        outputs = self._extractor.network.block_outputs(self._extractor.pixels(images))  # type: ignore[operator]
        return [outputs[block] for block in self.BLOCKS]

    def weights(self) -> Sequence[Tensor | float]:
        return [1 / len(self.BLOCKS)] * len(self.BLOCKS)

    def modules(self) -> Sequence[nn.Module]:
        return [self._extractor.network]

    def to(self, device: torch.device | str) -> PerceptualDistance:
        self._extractor.to(device)
        return super().to(device)


class Trunk(NamedTuple):
    """An ImageNet network under LPIPS: torchvision's constructor, its weight file, and the layers behind which maps are taken."""

    constructor: str
    file: str
    sha256: str
    taps: tuple[int, ...]


TRUNKS = {
    "alex": Trunk("alexnet", "alexnet-owt-7be5be79.pth", "7be5be79", (1, 4, 7, 9, 11)),
    "vgg": Trunk("vgg16", "vgg16-397923af.pth", "397923af", (3, 8, 15, 22, 29)),
    "squeeze": Trunk("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", (1, 4, 7, 9, 10, 11, 12)),
}
SMALLEST_SIDE = 64  # of the patches that LPIPS was fitted on


class LPIPS(PerceptualDistance):
    """LPIPS v0.1 (alex, vgg or squeeze) with its learned weights and its ImageNet trunk; images under 64 pixels are enlarged.

    weights: the trunk's file, where it is not in torch hub's cache. download: permission to fetch it.
    """

    paper: ClassVar[str] = (
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, arXiv 1801.03924"
    )
    licence: ClassVar[str] = "BSD-2-Clause"
    calibrated: ClassVar[bool] = True

    def __init__(
        self, net: str = "alex", weights: str | os.PathLike[str] | None = None, download: bool = False
    ) -> None:
        super().__init__()
        if net not in TRUNKS:
            raise BenchError(f"LPIPS has no network '{net}'; {did_you_mean(net, TRUNKS)}")
        self._trunk, self._heads = TRUNKS[net], _heads(net)
        url = f"https://download.pytorch.org/models/{self._trunk.file}"
        if download and weights is None:
            download_weights(url, self._trunk.file, self._trunk.sha256)
        path = find_weights(f"LPIPS ({net})", weights, [self._trunk.file], url)
        digest = check_sha256(path, self._trunk.sha256)
        self._network = _trunk_network(self._trunk, path)
        self._shift = torch.tensor([-0.030, -0.088, -0.188], device="cpu").reshape(3, 1, 1)
        self._scale = torch.tensor([0.458, 0.448, 0.450], device="cpu").reshape(3, 1, 1)
        self.name = f"lpips_{net}_v0.1"
        self.version = f"{self.name} trunk={digest[:16]} heads={sha256_of(_heads_path(net))[:16]} side>={SMALLEST_SIDE}"

    def maps(self, images: Tensor) -> list[Tensor]:
        height, width = (max(side, SMALLEST_SIDE) for side in images.shape[1:3])
        x = resize(images, (height, width)).expand(-1, 3, -1, -1) / 127.5 - 1
        x = (x - self._shift.to(x.device)) / self._scale.to(x.device)
        taken = []
        for i, layer in enumerate(self._network):
            x = layer(x)
            if i in self._trunk.taps:
                taken.append(x)
        return taken

    def weights(self) -> Sequence[Tensor | float]:
        return [head.to(self.device) for head in self._heads]

    def modules(self) -> Sequence[nn.Module]:
        return [self._network]


def perceptual_distance(net: str = "auto", weights: str | os.PathLike[str] | None = None) -> PerceptualDistance:
    """The distance by name: ``effnetlite0``, LPIPS's ``alex``, ``vgg``, ``squeeze``, or ``auto``.

    weights: file of LPIPS's trunk, where torch hub's cache does not hold it. auto: LPIPS of the file given, else of the first trunk
    that is in the cache, else ``effnetlite0``. The distance's name says which it is.
    """
    if net == "effnetlite0" and weights is None:
        return EfficientNetDistance()
    if net == "effnetlite0":
        raise BenchError("the distance 'effnetlite0' takes no weights; choose net = 'auto' or a network of LPIPS")
    if net != "auto":
        return LPIPS(net, weights)
    if weights is not None:
        return LPIPS(_net_of(Path(weights).expanduser()), weights)
    cached = (net for net, trunk in TRUNKS.items() if (hub_folder() / trunk.file).is_file())
    first = next(cached, None)
    return EfficientNetDistance() if first is None else LPIPS(first)


def _net_of(path: Path) -> str:
    """The network of LPIPS whose trunk a file holds, or the first that a folder has."""
    if path.is_dir():
        return next((net for net, trunk in TRUNKS.items() if (path / trunk.file).is_file()), "alex")
    digest = sha256_of(path) if path.is_file() else ""
    found = [net for net, trunk in TRUNKS.items() if trunk.sha256 and digest.startswith(trunk.sha256)]
    if not found and path.is_file():
        files = " or ".join(trunk.file for trunk in TRUNKS.values())
        raise BenchError(f"{path} is no trunk of LPIPS (SHA-256 {digest[:16]}...); give {files} as published")
    return found[0] if found else "alex"  # whose message names the missing file


def _trunk_network(trunk: Trunk, path: Path) -> nn.Sequential:
    """The convolutional part of the trunk as far as the last tap, with its published weights."""
    from torchvision import models

    whole = without_weights(functools.partial(getattr(models, trunk.constructor), weights=None))
    load_strictly(whole, load_state_dict(path), path)
    network: nn.Sequential = whole.features[: trunk.taps[-1] + 1]
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # a map that was taken must not change afterwards
    return network.eval().requires_grad_(False)


def _heads(net: str) -> list[Tensor]:
    """LPIPS's learned channel weights, ``(C, 1, 1)`` for each depth, not negative."""
    state = load_state_dict(_heads_path(net))
    return [state[f"lin{i}.model.1.weight"].float().clamp_min(0).reshape(-1, 1, 1) for i in range(len(state))]


def _heads_path(net: str) -> Path:
    """The file of learned weights inside the installed package lpips, which is not imported."""
    found = importlib.util.find_spec("lpips")
    if found is None or found.origin is None:
        raise BenchError("LPIPS needs its learned weights: run pip install lpips")
    return Path(found.origin).parent / "weights" / "v0.1" / f"{net}.pth"
