"""Any torch module and timm's models as extractors."""

import dataclasses
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.features.cache import FeatureCache
from bench.features.module import ModuleExtractor, TimmExtractor
from bench.features.module_state import module_digest
from bench.features.weights import sha256_of


class Quarters(nn.Module):
    """Mean of each channel in each quarter of the image, and of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"quarters": nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) * self.gain, "whole": x.mean((2, 3))}


def images(count: int = 3, side: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)


def test_a_module_sees_normalised_pixels_and_names_its_layers() -> None:
    extractor = ModuleExtractor(Quarters(), 8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), name="quarters")
    assert extractor.layers == {"quarters": 12, "whole": 3}
    batch = images()
    expected = (batch.float().mean((1, 2)) / 255 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.6, 0.7])
    assert (extractor(batch)["whole"] - expected).abs().max() < 1e-5


def test_a_plain_tensor_is_the_layer_features() -> None:
    extractor = ModuleExtractor(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), 4)
    assert extractor.layers == {"features": 5}
    assert extractor(images(side=30))["features"].shape == (3, 5)


def test_the_version_follows_weights_structure_and_preprocessing() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    versions = {ModuleExtractor(linear, 4).version, ModuleExtractor(linear, 4, mean=0.4).version}
    versions.add(ModuleExtractor(nn.Sequential(*linear, nn.ReLU()), 4).version)
    with torch.no_grad():
        linear[1].weight[2, 3] += 1e-3
    versions.add(ModuleExtractor(linear, 4).version)
    assert len(versions) == 4


class Scaled(nn.Module):
    """Features that depend on a plain attribute."""

    def __init__(self, scale: Any, function: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 5)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.scale, self.function = scale, function

    def forward(self, x: Tensor) -> Tensor:
        first = self.scale
        while not isinstance(first, float):
            first = (
                next(iter(first.values())) if isinstance(first, dict) else getattr(first, "factor", None) or first[0]
            )
        return self.linear(x.flatten(1)) * first


@dataclasses.dataclass
class Settings:
    factor: float


class Doubled(Scaled):
    """The same weights and attributes, other code."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


@pytest.mark.parametrize(
    "wrap",
    [float, lambda f: [f, "x"], lambda f: {"a": {"b": (f,)}}, Settings, lambda f: types.SimpleNamespace(factor=f)],
)
def test_modules_that_differ_in_a_plain_attribute_share_no_cache(wrap: Any, tmp_path: Path) -> None:
    cache, batch = FeatureCache(tmp_path), images(4, 4).numpy()
    one, two, again = (ModuleExtractor(Scaled(wrap(factor)), 4) for factor in (1.0, 2.0, 1.0))
    assert one.version == again.version != two.version
    features = [cache.features(batch, extractor)["features"] for extractor in (one, two, again)]
    assert np.allclose(features[1], 2 * features[0])
    assert np.array_equal(features[0], features[2])
    assert len(list(tmp_path.iterdir())) == 2


def test_modules_of_other_code_share_no_cache() -> None:
    assert ModuleExtractor(Scaled(1.0), 4).version != ModuleExtractor(Doubled(1.0), 4).version


def test_a_setting_of_a_module_inside_counts() -> None:
    one, two = (ModuleExtractor(nn.Sequential(Scaled(factor), nn.ReLU()), 4) for factor in (1.0, 3.0))
    assert one.version != two.version


@pytest.mark.parametrize("compile", [torch.jit.script, torch.fx.symbolic_trace])
def test_graphs_whose_constants_cannot_be_seen_are_not_cached(compile: Any) -> None:
    class Times(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.linear = nn.Linear(48, 5)
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(1)) * self.factor

    with pytest.warns(UserWarning, match="not cached: .*graph, whose constants cannot be seen"):
        extractor = ModuleExtractor(compile(Times(2.0)), 4)
    assert extractor.uncacheable


@pytest.mark.parametrize("what", ["closure", "hook", "iterator"])
def test_what_cannot_be_told_apart_is_not_cached_and_said(what: str, tmp_path: Path) -> None:
    factor = 2.0
    module = Scaled(1.0, {"closure": lambda x: x * factor, "iterator": iter([1])}.get(what))
    if what == "hook":
        module.register_forward_hook(lambda module, inputs, output: output * factor)
    with pytest.warns(
        UserWarning, match=r"features of extractor module are not cached: Scaled: .*(closes|hooks|of type)"
    ):
        extractor = ModuleExtractor(module, 4)
    assert extractor.version.split("weights=")[1].split()[0].endswith("-incomplete")
    cache = FeatureCache(tmp_path / "cache")
    batch = images(3, 4).numpy()
    assert np.array_equal(cache.features(batch, extractor)["features"], extractor(torch.from_numpy(batch))["features"])
    assert not (tmp_path / "cache").exists()


def test_a_fingerprint_of_ones_own_is_trusted(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor = ModuleExtractor(Scaled(1.0, iter([1])), 4, fingerprint="mine")
    assert "weights=mine " in extractor.version
    FeatureCache(tmp_path).features(images(3, 4).numpy(), extractor)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_digest_covers_every_kind_of_number() -> None:
    module = nn.Module()
    module.register_buffer("flag", torch.tensor(True))
    module.register_buffer("small", torch.ones(3, dtype=torch.bfloat16))
    before = module_digest(module)
    module.flag.fill_(False)
    assert module_digest(module) != before


def test_feature_maps_are_refused_rather_than_flattened() -> None:
    with pytest.raises(BenchError, match=r"gave \(2, 4, 8, 8\) for layer 'features' of 2 images"):
        ModuleExtractor(nn.Conv2d(3, 4, 1), 8, name="maps")


@pytest.mark.peer
def test_timm_by_name_with_a_weight_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(3)
    network = timm.create_model("resnet10t", pretrained=False).eval()
    path = tmp_path / "resnet10t.safetensors"
    save_file(network.state_dict(), path)
    extractor = TimmExtractor("resnet10t", weights=path)
    assert extractor.name == "timm_resnet10t"
    assert extractor.layers == {"features": 512, "logits": 1000}
    assert sha256_of(path)[:16] in extractor.version
    batch = images(2, side=176)
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1),
    )
    with torch.no_grad():
        logits = network((batch.permute(0, 3, 1, 2) / 255 - mean) / std)
    ours = extractor(batch)["logits"]
    assert (ours - logits).norm() < 1e-5 * logits.norm()


@pytest.mark.peer
def test_timm_never_guesses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(BenchError, match="did you mean 'resnet10t'"):
        TimmExtractor("resnet10tt")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BenchError, match=r"needs model\.safetensors of huggingface\.co/timm/resnet10t"):
        TimmExtractor("resnet10t")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(BenchError, match="does not hold the weights of timm's resnet10t"):
        TimmExtractor("resnet10t", weights=tmp_path / "other.pth")
    with pytest.raises(BenchError, match="are not at"):
        TimmExtractor("resnet10t", weights=tmp_path / "none.safetensors")
