"""DINOv2: self-supervised features, which agree with people's judgement better than Inception's."""

from __future__ import annotations

import os
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError, did_you_mean
from bench.features.network import IMAGENET_MEAN, IMAGENET_STD, NetworkExtractor
from bench.features.vit import VisionTransformer, shape_of
from bench.features.weights import (
    check_sha256,
    download_weights,
    find_weights,
    load_state_dict,
    load_strictly,
    sha256_of,
    without_weights,
)

SIDE = 224
VARIANTS = tuple(f"vit{size}14{registers}" for registers in ("", "_reg") for size in "sblg")

# SHA-256 of the published files. The others are taken as they are; each file's own digest stands in the version.
PUBLISHED = {
    "vits14": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "vitb14": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "vitl14": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}


class DINOv2Extractor(NetworkExtractor):
    """DINOv2 class token (384 to 1536 numbers): vits14, vitb14, vitl14 (the usual FD-DINOv2), vitg14, each also with _reg.

    weights: the file, where it is not in torch hub's cache. download: permission to fetch it (0.09 to 4.5 GB).
    """

    paper: ClassVar[str] = (
        "DINOv2: Learning Robust Visual Features without Supervision, 2023, arXiv 2304.07193; as FD: 2306.04675"
    )
    licence: ClassVar[str] = "Apache-2.0"

    def __init__(
        self, variant: str = "vitl14", weights: str | os.PathLike[str] | None = None, download: bool = False
    ) -> None:
        if variant not in VARIANTS:
            raise BenchError(f"extractor dinov2 has no variant '{variant}'; {did_you_mean(variant, VARIANTS)}")
        file, url = _published_as(variant)
        if download and weights is None:
            download_weights(url, file, PUBLISHED.get(variant, ""))
        path = find_weights(f"extractor dinov2 ({variant})", weights, [file], url)
        digest = check_sha256(path, PUBLISHED[variant]) if variant in PUBLISHED else sha256_of(path)
        network = build_dinov2(load_state_dict(path), path)
        super().__init__(
            f"dinov2_{variant}",
            network,
            {"cls": network.width},
            fingerprint=digest[:16],
            sides=(SIDE, SIDE),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )


def build_dinov2(state: dict[str, Tensor], source: object) -> VisionTransformer:
    """The network for 224 x 224 pixels from a published state dict: positions are resampled from their 37 x 37 grid."""
    state = {name: value.float() for name, value in state.items() if name != "mask_token"}
    shape = shape_of(state, source)
    grid = SIDE // shape.patch
    state["pos_embed"] = resample_positions(state["pos_embed"], grid, with_registers=shape.registers > 0)
    shape = shape_of(state, source)
    network = without_weights(lambda: VisionTransformer(shape, "cls"))
    load_strictly(network, state, source)
    return network


def resample_positions(positions: Tensor, grid: int, with_registers: bool) -> Tensor:
    """``(1, 1 + n * n, d)`` -> ``(1, 1 + grid * grid, d)``, in the way each family of weights was trained.

    Models without registers sample at a scale of (grid + 0.1) / n, bicubic without antialiasing; a rounding work-around of
    their first version that the weights rely on. Models with registers use a plain antialiased bicubic.
    """
    first, patches = positions[:, :1], positions[:, 1:]
    before = round(patches.shape[1] ** 0.5)
    if before == grid:
        return positions
    square = patches.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    if with_registers:
        square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    else:
        scale = (grid + 0.1) / before
        square = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([first, square.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def _published_as(variant: str) -> tuple[str, str]:
    """File name and address of a variant."""
    size, registers = variant.removesuffix("_reg"), "_reg4" if variant.endswith("_reg") else ""
    file = f"dinov2_{size}{registers}_pretrain.pth"
    return file, f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}/{file}"
