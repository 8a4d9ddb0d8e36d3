"""DINOv2 and CLIP towers: equal to timm's under random weights with the published names; files are checked, never guessed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.features import clip, dinov2
from bench.features.clip import CLIPExtractor, build_clip
from bench.features.dinov2 import DINOv2Extractor, build_dinov2, resample_positions
from bench.features.weights import sha256_of


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape) / shape[-1] ** 0.5


def dinov2_state(
    width: int = 128, depth: int = 2, grid: int = 37, registers: int = 0, gated: bool = False
) -> dict[str, Tensor]:
    """Random weights under the names of ``dinov2_vit*14_pretrain.pth``."""
    state = {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, 1 + grid**2, width),
        "mask_token": torch.randn(1, width),
        "patch_embed.proj.weight": torch.randn(width, 3, 14, 14) / 25,
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": 1 + torch.randn(width) / 5,
        "norm.bias": torch.randn(width) / 5,
    }
    if registers:
        state["register_tokens"] = torch.randn(1, registers, width)
    hidden = 192 if gated else 4 * width
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= (
        {"mlp.w12": (2 * hidden, width), "mlp.w3": (width, hidden)}
        if gated
        else {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    )
    for i in range(depth):
        for name, shape in linear.items():
            state |= {f"blocks.{i}.{name}.weight": normal(*shape), f"blocks.{i}.{name}.bias": torch.randn(shape[0]) / 5}
        for name in ("norm1", "norm2"):
            state |= {
                f"blocks.{i}.{name}.weight": 1 + torch.randn(width) / 5,
                f"blocks.{i}.{name}.bias": torch.randn(width) / 5,
            }
        for name in ("ls1", "ls2"):
            state[f"blocks.{i}.{name}.gamma"] = torch.rand(width)
    return state


def clip_state(width: int = 128, depth: int = 2, patch: int = 32, grid: int = 7, output: int = 64) -> dict[str, Tensor]:
    """Random weights under the names of OpenAI's ``ViT-*.pt``, with a bit of the text tower."""
    state = {
        "visual.class_embedding": torch.randn(width),
        "visual.positional_embedding": torch.randn(1 + grid**2, width),
        "visual.proj": normal(width, output),
        "visual.conv1.weight": torch.randn(width, 3, patch, patch) / (patch * 1.7),
        "token_embedding.weight": torch.randn(5, 4),
        "logit_scale": torch.tensor(4.6),
    }
    for name in ("ln_pre", "ln_post"):
        state |= {f"visual.{name}.weight": 1 + torch.randn(width) / 5, f"visual.{name}.bias": torch.randn(width) / 5}
    for i in range(depth):
        block = f"visual.transformer.resblocks.{i}"
        state |= {
            f"{block}.attn.in_proj_weight": normal(3 * width, width),
            f"{block}.attn.in_proj_bias": torch.randn(3 * width) / 5,
        }
        for name, rows, columns in (
            ("attn.out_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            state |= {f"{block}.{name}.weight": normal(rows, columns), f"{block}.{name}.bias": torch.randn(rows) / 5}
        for name in ("ln_1", "ln_2"):
            state |= {
                f"{block}.{name}.weight": 1 + torch.randn(width) / 5,
                f"{block}.{name}.bias": torch.randn(width) / 5,
            }
    return state


def timm_model(**sizes: object) -> nn.Module:
    transformer = pytest.importorskip("timm.models.vision_transformer").VisionTransformer
    return transformer(num_classes=0, **sizes).eval()


@pytest.mark.peer
@pytest.mark.parametrize(("registers", "gated"), [(0, False), (4, False), (0, True)])
def test_dinov2_agrees_with_timm(registers: int, gated: bool) -> None:
    layers = pytest.importorskip("timm.layers")
    filter_names = pytest.importorskip("timm.models.vision_transformer").checkpoint_filter_fn
    state = dinov2_state(grid=16, registers=registers, gated=gated)
    mlp = {"mlp_layer": layers.SwiGLUPacked, "mlp_ratio": 3.0, "act_layer": nn.SiLU} if gated else {}
    theirs = timm_model(
        img_size=224, patch_size=14, embed_dim=128, depth=2, num_heads=2, init_values=1.0, reg_tokens=registers,
        no_embed_class=registers > 0, **mlp,
    )  # fmt: skip
    theirs.load_state_dict(filter_names({name: value.clone() for name, value in state.items()}, theirs))
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        ours = build_dinov2(state, "random")(pixels)["cls"]
        assert relative(ours, theirs(pixels)) < 1e-5


@pytest.mark.peer
@pytest.mark.parametrize(("patch", "grid"), [(32, 7), (14, 16)])
def test_clip_agrees_with_timm(patch: int, grid: int) -> None:
    layers = pytest.importorskip("timm.layers")
    filter_names = pytest.importorskip("timm.models.vision_transformer").checkpoint_filter_fn
    state = clip_state(patch=patch, grid=grid)
    transformer = pytest.importorskip("timm.models.vision_transformer").VisionTransformer
    theirs = transformer(
        img_size=patch * grid, patch_size=patch, embed_dim=128, depth=2, num_heads=2, num_classes=64, pre_norm=True,
        act_layer=layers.get_act_layer("quick_gelu"), norm_layer=nn.LayerNorm,
    ).eval()  # fmt: skip
    renamed = filter_names({name: value.clone() for name, value in state.items()}, theirs)
    theirs.load_state_dict(renamed)
    pixels = torch.randn(2, 3, patch * grid, patch * grid)
    with torch.no_grad():
        ours = build_clip(state, "random")(pixels)["embedding"]
        assert relative(ours, theirs(pixels)) < 1e-5


def test_positions_are_kept_at_their_own_grid_and_resampled_elsewhere() -> None:
    positions = torch.randn(1, 1 + 37 * 37, 8)
    assert resample_positions(positions, 37, with_registers=False) is positions
    smooth = torch.cat([torch.zeros(1, 1, 1), torch.linspace(-1, 1, 37).repeat(37).reshape(1, -1, 1)], 1)
    for with_registers in (False, True):
        resampled = resample_positions(smooth, 16, with_registers)
        assert resampled.shape == (1, 1 + 256, 1)
        inner = resampled[0, 1:, 0].reshape(16, 16)[4:12, 4:12]
        centres = ((torch.arange(16) + 0.5) / 16 * 2 - 1)[4:12] * 37 / 36
        assert (inner - centres).abs().max() < 0.02


def test_the_first_models_sample_positions_at_the_scale_they_were_trained_with() -> None:
    """Output i of 16 reads at (i + 1/2) * 37 / 16.1 - 1/2 with torch's cubic kernel, a = -3/4."""
    values = torch.randn(37, dtype=torch.float64)
    row = values.float().repeat(37).reshape(1, -1, 1)
    resampled = resample_positions(torch.cat([torch.zeros(1, 1, 1), row], 1), 16, with_registers=False)
    place = (torch.arange(1, 15, dtype=torch.float64) + 0.5) * 37 / 16.1 - 0.5
    distance = (place[:, None] - torch.arange(37)).abs()
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    assert (resampled[0, 1:, 0].reshape(16, 16)[8, 1:-1] - weights @ values).abs().max() < 1e-4


def test_extractors_load_files_that_have_the_published_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(dinov2_state(), path)
    with pytest.raises(BenchError, match="has SHA-256"):
        DINOv2Extractor("vits14", weights=path)
    monkeypatch.setitem(dinov2.PUBLISHED, "vits14", sha256_of(path))
    extractor = DINOv2Extractor("vits14", weights=path)
    assert extractor.name == "dinov2_vits14"
    assert sha256_of(path)[:16] in extractor.version
    features = extractor(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    assert features["cls"].shape == (2, extractor.layers["cls"]) == (2, 128)


class Archive(nn.Module):
    """Holds parameters under dotted names, as CLIP's TorchScript archives do."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            owner: nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(leaf, nn.Parameter(value.half()))

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore")
def test_clip_reads_the_published_kind_of_file_only_behind_its_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, path = clip_state(), tmp_path / "ViT-B-32.pt"
    torch.jit.script(Archive(state)).save(str(path))
    with pytest.raises(BenchError, match="has SHA-256"):
        CLIPExtractor("vitb32", weights=path)
    monkeypatch.setitem(clip.VARIANTS, "vitb32", clip.Published("ViT-B-32.pt", sha256_of(path)))
    extractor = CLIPExtractor("vitb32", weights=path)
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    with torch.no_grad():
        expected = build_clip({k: v.half() for k, v in state.items()}, "")(
            (images.permute(0, 3, 1, 2) / 255 - mean) / std
        )
    assert relative(extractor(images)["embedding"], expected["embedding"]) < 1e-5
    assert extractor.sides == (224, 224)


@pytest.mark.parametrize(
    ("extractor", "file"), [(DINOv2Extractor, "dinov2_vitl14_pretrain.pth"), (CLIPExtractor, "ViT-B-32.pt")]
)
def test_missing_weights_say_where_to_put_the_file(
    extractor: type, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BenchError, match=f"put {file} from https.* into {tmp_path}"):
        extractor()
    with pytest.raises(BenchError, match="has no variant 'vitx14'"):
        extractor("vitx14")


def test_a_file_of_something_else_is_one_sentence() -> None:
    with pytest.raises(BenchError, match="does not hold a vision transformer"):
        build_dinov2({"weight": torch.zeros(3)}, "w.pth")
    with pytest.raises(BenchError, match="image tower"):
        build_clip({"weight": torch.zeros(3)}, "w.pt")
    broken = dinov2_state(grid=16)
    del broken["blocks.1.attn.proj.bias"]
    with pytest.raises(BenchError, match=r"lacks 'blocks\.1\.attn\.proj\.bias'"):
        build_dinov2(broken, "w.pth")


def test_variants_cover_what_is_published() -> None:
    assert np.array_equal(sorted(dinov2.VARIANTS), sorted(f"vit{s}14{r}" for s in "sblg" for r in ("", "_reg")))
    assert dinov2._published_as("vitl14_reg")[1] == (
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth"
    )
