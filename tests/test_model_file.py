"""Saved models come back whole, and files that do not fit are refused in one sentence."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

from bench.errors import BenchError
from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, TokenSpace, VectorSpace
from bench.model_file import load_model, save_model

MODELS = {point.name: point.load() for point in entry_points(group="bench.models") if "reference_models" in point.value}


def space_of(kind: type[GenerativeModel]) -> ImageSpace | VectorSpace | TokenSpace:
    if ImageSpace in kind.spaces:
        return ImageSpace(1, 8, 8)
    return VectorSpace(3) if VectorSpace in kind.spaces else TokenSpace(7, 9)


def data_of(space: ImageSpace | VectorSpace | TokenSpace) -> torch.Tensor:
    torch.manual_seed(1)
    if isinstance(space, ImageSpace):
        return torch.randint(256, (32, *space.shape)) / 127.5 - 1
    if isinstance(space, VectorSpace):
        return torch.randn(32, *space.shape)
    return torch.randint(space.vocabulary, (32, *space.shape))


def small(kind: type[GenerativeModel]) -> dict[str, int]:
    fields = kind.make_config().__dataclass_fields__
    return {name: value for name, value in {"width": 8, "classes": 3}.items() if name in fields}


def fitted(kind: type[GenerativeModel]) -> GenerativeModel:
    torch.manual_seed(0)
    space = space_of(kind)
    model, batch = kind(space, **small(kind)), Batch(data_of(space), torch.arange(32) % 3, 32 * ("a caption",))
    if model.trains:
        model.train_step(batch, 0.5)
    model.eval()
    if hasattr(model, "fit_prior"):
        model.fit_prior([batch])
    return model


def samples(model: GenerativeModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.sample(3, SampleGenerator(0, 3))


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    model, state = fitted(MODELS[name]), torch.get_rng_state()
    save_model(model, tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["model.json", "weights.safetensors"]
    loaded = load_model(tmp_path / "saved")
    assert type(loaded) is type(model)
    assert (loaded.space, loaded.config, loaded.training) == (model.space, model.config, False)
    assert torch.equal(samples(loaded), samples(model))


class Own(GenerativeModel):
    """A class that nobody registered."""

    def train_step(self, batch, progress):
        return {}

    def sample(self, n, generator, **options):
        return generator.rand(*self.space.shape) * 2 - 1


class Keeps(Own):
    """Fills a buffer while it trains."""

    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.register_buffer("kept", None)

    def train_step(self, batch, progress):
        self.kept = batch.x.mean(0)
        return {"loss": 0.0}


def test_a_buffer_that_training_made_comes_back(tmp_path: Path) -> None:
    space = ImageSpace(1, 8, 8)
    model = Keeps(space)
    model.train_step(Batch(data_of(space), None), 0.5)
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path, Keeps).kept, model.kept)


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    save_model(Own(ImageSpace(3, 4, 4)), tmp_path)
    with pytest.raises(BenchError, match="not registered; pass it as model_class"):
        load_model(tmp_path)
    assert isinstance(load_model(tmp_path, Own), Own)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(fitted(MODELS["autoencoder"]), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "no-such"}, "unknown model 'no-such'"),
        ({"model": "os:system"}, "unknown model 'os:system'"),
        ({"format": "other"}, "format"),
        ({"space": {"kind": "image", "channels": 1, "height": 8, "width": "8"}}, "whole numbers"),
        ({"space": {"kind": "image", "channels": 1, "height": 8, "width": 10**12}}, "whole numbers"),
        ({"space": {"kind": "sound"}}, "space.kind"),
        ({"config": {"widht": 8}}, "did you mean 'width'"),
        ({"config": {"width": 16}}, "belong to other options"),
        ({"config": None}, "table of options"),
        ({"model": "gan"}, "no option 'components'"),
        ({"model": "vae", "config": {"width": 8}}, "belong to another model"),
    ],
    ids=str,
)
def test_descriptions_that_do_not_fit(change: dict, message: str, saved: Path) -> None:
    path = saved / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=message):
        load_model(saved)


def test_broken_files(saved: Path) -> None:
    (saved / "weights.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(BenchError, match="not a safetensors file"):
        load_model(saved)
    (saved / "weights.safetensors").unlink()
    with pytest.raises(BenchError, match="cannot read model weights"):
        load_model(saved)
    (saved / "model.json").write_text("{")
    with pytest.raises(BenchError, match="not valid JSON"):
        load_model(saved)
    with pytest.raises(BenchError, match="cannot read model"):
        load_model(saved / "nowhere")
