"""The image tower of OpenAI's CLIP: features that follow what an image shows more than how it is textured."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bench.errors import BenchError, did_you_mean
from bench.features.network import NetworkExtractor
from bench.features.vit import VisionTransformer, shape_of
from bench.features.weights import (
    check_sha256,
    download_weights,
    find_weights,
    load_state_dict,
    load_strictly,
    without_weights,
)

MEAN = (122.7709383, 116.7460125, 104.09373615)  # CLIP's own, in grey levels
STD = (68.5005327, 66.6321579, 70.32316305)


class Published(NamedTuple):
    """A file of the original release; its address contains its SHA-256."""

    file: str
    sha256: str

    @property
    def url(self) -> str:
        return f"https://openaipublic.azureedge.net/clip/models/{self.sha256}/{self.file}"


VARIANTS = {
    "vitb32": Published("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "vitb16": Published("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "vitl14": Published("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "vitl14_336": Published("ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
}


class CLIPExtractor(NetworkExtractor):
    """CLIP image embedding (512 or 768 numbers, not normalised): vitb32, vitb16, vitl14, vitl14_336 (the one of CMMD).

    weights: the file, where it is not in torch hub's cache or ``~/.cache/clip``. download: permission to fetch it.
    """

    paper: ClassVar[str] = (
        "Learning Transferable Visual Models From Natural Language Supervision, 2021, arXiv 2103.00020"
    )
    licence: ClassVar[str] = "MIT"

    def __init__(
        self, variant: str = "vitb32", weights: str | os.PathLike[str] | None = None, download: bool = False
    ) -> None:
        if variant not in VARIANTS:
            raise BenchError(f"extractor clip has no variant '{variant}'; {did_you_mean(variant, VARIANTS)}")
        published = VARIANTS[variant]
        if download and weights is None:
            download_weights(published.url, published.file, published.sha256)
        folders = [Path.home() / ".cache" / "clip"]
        path = find_weights(f"extractor clip ({variant})", weights, [published.file], published.url, folders)
        check_sha256(path, published.sha256)
        network = build_clip(_read(path), path)
        super().__init__(
            f"clip_{variant}",
            network,
            {"embedding": network.width},
            fingerprint=published.sha256[:16],
            sides=(network.side, network.side),
            mean=MEAN,
            std=STD,
        )


def build_clip(state: dict[str, Tensor], source: object) -> VisionTransformer:
    """The image tower from a state dict with the original names (``visual.*``); the text tower is left aside."""
    tower = {_own_name(name): value.float() for name, value in state.items() if name.startswith("visual.")}
    if "head.weight" not in tower or "cls_token" not in tower:
        raise BenchError(
            f"{source} does not hold the image tower of CLIP's vision transformers; give the published file"
        )
    tower["head.weight"] = tower["head.weight"].T.contiguous()
    tower["cls_token"] = tower["cls_token"].reshape(1, 1, -1)
    tower["pos_embed"] = tower["pos_embed"].unsqueeze(0)
    shape = shape_of(tower, source, quick_gelu=True, eps=1e-5)
    network = without_weights(lambda: VisionTransformer(shape, "embedding"))
    load_strictly(network, tower, source)
    return network


def _own_name(published: str) -> str:
    """``visual.transformer.resblocks.0.attn.in_proj_weight`` -> ``blocks.0.attn.qkv.weight`` and so on."""
    name = re.sub(
        r"^visual\.(transformer\.resblocks\.(\d+)\.)?",
        lambda found: f"blocks.{found[2]}." if found[2] else "",
        published,
    )
    for theirs, own in (
        ("class_embedding", "cls_token"),
        ("positional_embedding", "pos_embed"),
        ("conv1.", "patch_embed.proj."),
        ("ln_pre.", "norm_pre."),
        ("ln_post.", "norm."),
        ("ln_1.", "norm1."),
        ("ln_2.", "norm2."),
        ("attn.in_proj_", "attn.qkv."),
        ("attn.out_proj.", "attn.proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ):
        name = name.replace(theirs, own)
    return "head.weight" if name == "proj" else name


def _read(path: Path) -> dict[str, Tensor]:
    """The published files are TorchScript archives, which only ``torch.jit.load`` reads: done behind the SHA-256 check."""
    if path.suffix == ".pt":
        return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    return load_state_dict(path)
