"""A vision transformer for inference, with the parameter names of DINOv2's published weights.

Covers DINOv2 (layer scale, registers, SwiGLU in the giant) and CLIP's image tower (norm before the blocks, quick GELU,
output projection). Every size is read from the state dict, so one function builds any published variant.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError


@dataclasses.dataclass(frozen=True)
class VitShape:
    """The sizes and switches of a transformer. registers: extra tokens without a position. output: width of a projection behind
    the last norm, or 0. grid: patches along a side, for which ``pos_embed`` is made."""

    width: int
    depth: int
    hidden: int
    patch: int
    grid: int
    registers: int = 0
    layer_scale: bool = False
    gated: bool = False
    quick_gelu: bool = False
    patch_bias: bool = True
    pre_norm: bool = False
    output: int = 0
    eps: float = 1e-6

    @property
    def heads(self) -> int:
        """All published models of both families have heads of 64."""
        return self.width // 64


class Attention(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = (
            self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.quick = shape.quick_gelu
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.w12 = nn.Linear(shape.width, 2 * shape.hidden)
        self.w3 = nn.Linear(shape.hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * x)


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.eps)
        self.attn = Attention(shape)
        self.ls1 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.eps)
        self.mlp = GatedMlp(shape) if shape.gated else Mlp(shape)
        self.ls2 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch, bias=shape.patch_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """float32 ``(B, 3, grid * patch, grid * patch)`` -> {layer: the class token behind the last norm (and projection)}."""

    def __init__(self, shape: VitShape, layer: str) -> None:
        super().__init__()
        self.layer, self.width, self.side = layer, shape.output or shape.width, shape.grid * shape.patch
        self.patch_embed = PatchEmbed(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.grid**2, shape.width))
        self.register_tokens = nn.Parameter(torch.zeros(1, shape.registers, shape.width)) if shape.registers else None
        self.norm_pre = nn.LayerNorm(shape.width, eps=shape.eps) if shape.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=shape.eps)
        self.head = nn.Linear(shape.width, shape.output, bias=False) if shape.output else nn.Identity()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        patches = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.pos_embed
        if self.register_tokens is not None:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        return {self.layer: self.head(self.norm(x[:, 0]))}


def shape_of(state: dict[str, Tensor], source: object, **switches: bool | int | float) -> VitShape:
    """The sizes of the transformer whose weights ``state`` holds, under DINOv2's names."""
    try:
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        gated = "blocks.0.mlp.w12.weight" in state
        hidden = state["blocks.0.mlp.w12.weight"].shape[0] // 2 if gated else state["blocks.0.mlp.fc1.weight"].shape[0]
        grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    except (KeyError, IndexError, ValueError) as error:
        raise BenchError(f"{source} does not hold a vision transformer ({error}); give the published file") from None
    return VitShape(
        width=width,
        depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        hidden=hidden,
        patch=patch,
        grid=grid,
        gated=gated,
        registers=state["register_tokens"].shape[1] if "register_tokens" in state else 0,
        layer_scale="blocks.0.ls1.gamma" in state,
        patch_bias="patch_embed.proj.bias" in state,
        pre_norm="norm_pre.weight" in state,
        output=state["head.weight"].shape[0] if "head.weight" in state else 0,
        **switches,  # type: ignore[arg-type]
    )
