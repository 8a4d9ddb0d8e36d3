"""Inception-v3 as the Fréchet Inception Distance uses it: the network of 2015-12-05, not torchvision's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError, did_you_mean
from bench.features.network import ConvNorm, NetworkExtractor, fold_batch_norms, pool
from bench.features.resize import ResizeMode
from bench.features.weights import (
    check_sha256,
    download_weights,
    find_weights,
    load_state_dict,
    load_strictly,
    without_weights,
)

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")  # the same bytes twice
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILES[0]}"

LAYERS = {"pool": 2048, "logits": 1008, "spatial": 2023}
SPATIAL_CHANNELS = 7  # of the 17 x 17 map: 2023 numbers

# What is subtracted and divided by after each way to resize, in grey levels: TensorFlow's graph and pytorch-fid differ.
NORMALISATION = {"clean": (128.0, 128.0), "legacy_tensorflow": (128.0, 128.0), "legacy_pytorch": (127.5, 127.5)}


def mean_pool(x: Tensor) -> Tensor:
    """3 x 3 average, stride 1, that leaves the padding out of the count as TensorFlow does."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class InceptionA(nn.Module):
    """35 x 35: 1x1, 5x5, two 3x3, pooled."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(inputs, 64, 1)
        self.branch5x5_1 = ConvNorm(inputs, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(mean_pool(x))], 1)


class InceptionB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    """17 x 17: 1x1, 7x7 as 1x7 and 7x1, that twice, pooled."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        wide: dict = {"kernel": (1, 7), "padding": (0, 3)}
        tall: dict = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNorm(inputs, 192, 1)
        self.branch7x7_1 = ConvNorm(inputs, inner, 1)
        self.branch7x7_2 = ConvNorm(inner, inner, **wide)
        self.branch7x7_3 = ConvNorm(inner, 192, **tall)
        self.branch7x7dbl_1 = ConvNorm(inputs, inner, 1)
        self.branch7x7dbl_2 = ConvNorm(inner, inner, **tall)
        self.branch7x7dbl_3 = ConvNorm(inner, inner, **wide)
        self.branch7x7dbl_4 = ConvNorm(inner, inner, **tall)
        self.branch7x7dbl_5 = ConvNorm(inner, 192, **wide)
        self.branch_pool = ConvNorm(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_pool(x))], 1)


class InceptionD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(inputs, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(inputs, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    """8 x 8: 1x1, 3x3 and double 3x3 with split ends, pooled: by the mean, in the last block of the FID network by the maximum."""

    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = ConvNorm(inputs, 320, 1)
        self.branch3x3_1 = ConvNorm(inputs, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvNorm(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvNorm(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else mean_pool(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class FIDInception(nn.Module):
    """Inception-v3 with the three changes of the FID network: padding is not averaged, the last block pools by the maximum,
    1008 classes. Parameters are named as in the published weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, maximum=False)
        self.Mixed_7c = InceptionE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: ``(B, 3, 299, 299)`` in about [-1, 1].

        ``logits`` are without the bias, as in every Inception Score since Salimans et al. (2016, arXiv 1606.03498).
        ``spatial`` is the first seven channels of the first branch of the seventh block (TensorFlow's ``mixed_6/conv``),
        row by row, channels last: the features of sFID (Nash et al. 2021, arXiv 2103.03841).
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x))))
        spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(x))))
        features = pool(x)
        return {"pool": features, "logits": features @ self.fc.weight.T, "spatial": spatial}


class InceptionExtractor(NetworkExtractor):
    """Inception-v3 with the FID weights: pool (2048, FID), logits (1008, Inception Score), spatial (2023, sFID).

    weights: the file, where it is not in torch hub's cache. download: permission to fetch it (95 MB). mode: how images are
    resized to 299 x 299; only ``clean`` may be called FID without a further word, so the others are part of the name.
    layers: leave some out to save memory.
    """

    paper: ClassVar[str] = (
        "GANs Trained by a Two Time-Scale Update Rule (FID), 2017, arXiv 1706.08500; clean: arXiv 2104.11222"
    )
    licence: ClassVar[str] = "Apache-2.0"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        mode: ResizeMode = "clean",
        layers: Sequence[str] = tuple(LAYERS),
        download: bool = False,
    ) -> None:
        if download and weights is None:
            download_weights(URL, FILES[0], SHA256)
        path = find_weights("extractor inception", weights, FILES, URL)
        check_sha256(path, SHA256)
        network = without_weights(FIDInception)
        load_strictly(network, load_state_dict(path), path)
        self._build(network, "inception", SHA256[:16], mode, layers)

    @classmethod
    def of_network(
        cls, network: FIDInception, fingerprint: str, mode: ResizeMode = "clean", layers: Sequence[str] = tuple(LAYERS)
    ) -> InceptionExtractor:
        """The same pipeline around other weights, named ``inception_custom``: what it measures is not FID."""
        extractor = cls.__new__(cls)
        extractor._build(network, "inception_custom", fingerprint, mode, layers)
        return extractor

    def _build(
        self, network: FIDInception, name: str, fingerprint: str, mode: ResizeMode, layers: Sequence[str]
    ) -> None:
        for layer in layers:
            if layer not in LAYERS:
                raise BenchError(f"extractor inception has no layer '{layer}'; {did_you_mean(layer, LAYERS)}")
        mean, std = NORMALISATION.get(mode, (128.0, 128.0))
        super().__init__(
            name if mode == "clean" else f"{name}_{mode}",  # so that nothing else is called FID
            fold_batch_norms(network.eval()),
            {layer: LAYERS[layer] for layer in layers},
            fingerprint=fingerprint,
            sides=(299, 299),
            mean=mean,
            std=std,
            mode=mode,
        )
