"""What holds for every reference model: shapes, ranges, reproducibility, precision, state, listings."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import io
import json
import re
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest
import torch
from rich.console import Console
from torch import Tensor

from bench.model import (
    Batch,
    BenchError,
    FitsPrior,
    GenerativeModel,
    ImageSpace,
    SampleGenerator,
    TokenSpace,
    VectorSpace,
    capabilities,
)
from bench.report.listing import model_card
from bench.suite import Config
from bench.training.diagnostics import gradient_norm
from reference_models.vae import VAE

MODELS = {point.name: point.load() for point in entry_points(group="bench.models") if "reference_models" in point.value}
TRAINED = [name for name, model in MODELS.items() if model.trains]
SMALL = {name: {"width": 8} for name in TRAINED}
SMALL["conditional-diffusion"]["classes"] = 10
SMALL["consistency"] |= {"levels": (10, 10), "learning_rate": 3e-2}  # losses of other numbers of levels do not compare
SPACE = ImageSpace(1, 8, 8)


@pytest.fixture(scope="module")
def fitted(digits: Tensor, train: Callable) -> Callable[[str], GenerativeModel]:
    """``fitted(name)``: the model after a few steps on digits, trained once; a copy, so that tests may change it."""
    done: dict[str, GenerativeModel] = {}

    def make(name: str) -> GenerativeModel:
        if name not in done:
            torch.manual_seed(0)
            done[name] = MODELS[name](SPACE, **SMALL.get(name, {}))
            train(done[name], digits, 15, batch_size=32)
        return copy.deepcopy(done[name])

    return make


def draw(model: GenerativeModel, n: int, seed: int = 0, batch_size: int | None = None) -> Tensor:
    size = batch_size or n
    starts = range(0, n, size)
    with torch.inference_mode():
        return torch.cat([model.sample(min(size, n - i), SampleGenerator(seed, min(size, n - i), i)) for i in starts])


def test_all_models_are_registered() -> None:
    trained = {
        "autoencoder", "denoising-autoencoder", "vae", "vqvae", "gan", "progressive-gan", "stylegan2", "ddpm", "flow-matching",
        "realnvp", "glow", "spline-flow", "pixelcnn", "image-gpt",
    }  # fmt: skip
    assert trained <= set(TRAINED)
    baselines = {"copy-train", "gaussian", "mean", "noise", "floor", "nearest-neighbours", "pca-gmm"}
    assert baselines <= set(MODELS) - set(TRAINED)


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_finite_and_in_range(name: str, fitted: Callable) -> None:
    x = draw(fitted(name), 6)
    assert x.shape == (6, 1, 8, 8)
    assert x.dtype == torch.float32
    assert x.min() >= -1
    assert x.max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_sample_i_does_not_depend_on_the_batch_size(name: str, fitted: Callable) -> None:
    model = fitted(name)
    whole, parts = ((draw(model, 21, batch_size=size) * 127.5 + 127.5).round() for size in (21, 8))
    assert (whole - parts).abs().max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_samples_depend_on_the_seed_and_on_nothing_else(name: str, fitted: Callable) -> None:
    model = fitted(name)
    first = draw(model, 4, seed=1)
    torch.rand(5)
    assert torch.equal(first, draw(model, 4, seed=1))
    assert name == "mean" or not torch.equal(first, draw(model, 4, seed=2))


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_deterministic(name: str, digits: Tensor, train: Callable) -> None:
    samples = []
    for _ in range(2):
        torch.manual_seed(7)
        model = MODELS[name](SPACE, **SMALL[name])
        train(model, digits[:128], 4, batch_size=16)
        samples.append(draw(model, 3))
    assert torch.equal(*samples)


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_carries_the_model(name: str, fitted: Callable, digits: Tensor) -> None:
    model, fresh = fitted(name), MODELS[name](SPACE, **SMALL.get(name, {})).eval()
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}  # what safetensors can store
    fresh.load_state_dict(state)
    if name in ("copy-train", "floor", "nearest-neighbours"):
        assert state == {}  # the training set is not a weight: it is given anew
        fresh.fit_prior([Batch(digits)])
    assert torch.equal(draw(model, 4), draw(fresh, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", TRAINED)
def test_trains_under_autocast(name: str, dtype: torch.dtype, digits: Tensor) -> None:
    torch.manual_seed(0)
    model = MODELS[name](SPACE, **SMALL[name])
    with torch.autocast("cpu", dtype=dtype):
        losses = model.train_step(Batch(digits[:16], torch.arange(16) % 10, 16 * ("a digit",)), 0.5)
    for loss in losses.values():
        assert isinstance(loss, Tensor)
        assert loss.ndim == 0
        assert loss.dtype == torch.float32
        assert not loss.requires_grad
        assert loss.isfinite()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in TRAINED if MODELS[name].family != "gan"])
def test_the_loss_goes_down(name: str, digits: Tensor, train: Callable) -> None:
    """On one batch that is seen again and again. Losses of GANs are a balance: they need not fall."""
    torch.manual_seed(0)
    losses = train(MODELS[name](SPACE, **SMALL[name]), digits[:32], 40, batch_size=32)
    first = next(iter(losses[0]))
    assert sum(loss[first] for loss in losses[-5:]) < 0.97 * sum(loss[first] for loss in losses[:5])


@pytest.mark.parametrize("name", TRAINED)
def test_averaged_weights_and_buffers_still_sample(name: str, fitted: Callable, digits: Tensor) -> None:
    """The harness averages every floating parameter and buffer of the model; that must not break it."""
    model = fitted(name)
    other = MODELS[name](SPACE, **SMALL[name])
    with torch.no_grad():
        for a, b in zip([*model.parameters(), *model.buffers()], [*other.parameters(), *other.buffers()], strict=True):
            if a.is_floating_point():
                a.lerp_(b, 0.5)
    if hasattr(model, "fit_prior"):
        model.fit_prior([Batch(digits)])
    assert draw(model, 3).isfinite().all()


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if VectorSpace in model.spaces])
def test_vectors(name: str, ring: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = MODELS[name](VectorSpace(2), **({"classes": 10} if name == "conditional-diffusion" else {}))
    train(model, ring, 5)
    x = draw(model, 7)
    assert x.shape == (7, 2)
    assert x.isfinite().all()


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("space", [ImageSpace(3, 8, 8), ImageSpace(1, 16, 16), ImageSpace(3, 32, 32)], ids=str)
def test_other_images(name: str, space: ImageSpace, train: Callable) -> None:
    torch.manual_seed(0)
    model = MODELS[name](space, **SMALL[name])
    train(model, torch.rand(32, *space.shape) * 2 - 1, 1, batch_size=8)
    assert draw(model, 2).shape == (2, *space.shape)


@pytest.mark.parametrize("name", MODELS)
def test_listings_can_read_it_without_importing(name: str) -> None:
    model = MODELS[name]
    (definition,) = (
        node
        for node in ast.parse(inspect.getsource(inspect.getmodule(model))).body
        if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    first_line = (ast.get_docstring(definition) or "").splitlines()[0]
    assert first_line.endswith(".")
    literals = {
        target.id: ast.literal_eval(node.value)
        for node in definition.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("family", "paper", "known_failures", "trains")
    }
    assert literals["family"]
    assert literals["known_failures"]
    assert "paper" in literals
    assert literals.get("trains", True) == model.trains


@pytest.mark.parametrize("name", MODELS)
def test_the_card_is_complete(name: str) -> None:
    """``bench show MODEL``: every option with its default, parameters, what it generates and when it fails."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(model_card(name, Config(suites={})))
    card = console.export_text()
    for label in ("family", "generates", "known failures", "capabilities", "parameters"):
        assert label in card
    for field in dataclasses.fields(MODELS[name].make_config()):
        assert re.search(rf"^ *{field.name} ", card, re.MULTILINE), field.name


@pytest.mark.parametrize("name", MODELS)
def test_configs_are_frozen_and_survive_json(name: str) -> None:
    config = MODELS[name].make_config()
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    assert MODELS[name].make_config(**values) == config
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


def test_models_that_can_sample_before_their_prior_is_fitted_say_so() -> None:
    """Those are watched for collapse while they train."""
    found = {name: model(SPACE, **SMALL.get(name, {})).samples_need_prior for name, model in MODELS.items()}
    assert not found["vae"]
    assert not found["vqvae"]
    assert VAE(SPACE, components=3).samples_need_prior
    for name, model in MODELS.items():
        fresh = model(SPACE, **SMALL.get(name, {})).eval()
        if isinstance(fresh, FitsPrior) and not fresh.samples_need_prior:
            assert draw(fresh, 2).isfinite().all()


@pytest.mark.parametrize("name", ["vqvae", "latent-diffusion"])
def test_a_part_that_trains_no_more_has_no_gradient(name: str, digits: Tensor) -> None:
    model = MODELS[name](SPACE, **SMALL[name])
    for progress in (0.1, 0.9):
        model.train_step(Batch(digits[:8]), progress)
    norms = {attribute: gradient_norm(optimizer) for attribute, optimizer in model.optimizers().items()}
    assert sorted(norm is None for norm in norms.values()) == [False, True]


def test_capabilities() -> None:
    found = {name: set(capabilities(model(SPACE, **SMALL.get(name, {})))) for name, model in MODELS.items()}
    assert found["autoencoder"] == {"FitsPrior", "Reconstructs", "HasLatent"}
    assert found["vae"] == {"FitsPrior", "Reconstructs", "HasLatent", "HasLikelihood"}
    assert found["denoising-autoencoder"] == found["autoencoder"]
    assert found["vqvae"] == {"FitsPrior", "Reconstructs", "HasLatent", "HasLikelihood", "HasCodes"}
    assert found["gan"] == found["progressive-gan"] == found["noise"] == set()
    assert found["stylegan2"] == {"HasStyle"}
    for name in ("ddpm", "flow-matching", "edm", "consistency", "cascaded-diffusion"):
        assert found[name] == {"Iterative"}
    assert found["conditional-diffusion"] == {"Iterative", "Conditional"}
    assert found["text-to-image"] == {"Iterative", "TextConditional"}
    assert found["latent-diffusion"] == {"Iterative", "Reconstructs", "HasLatent"}
    assert found["realnvp"] == found["glow"] == found["spline-flow"] == {"HasLatent", "HasLikelihood"}
    assert found["pixelcnn"] == found["image-gpt"] == {"HasLikelihood", "Iterative"}
    for name in ("gaussian", "mean", "copy-train", "floor", "nearest-neighbours", "pca-gmm"):
        assert found[name] == {"FitsPrior"}


@pytest.mark.parametrize("name", TRAINED)
def test_wrong_space_and_unknown_option(name: str) -> None:
    with pytest.raises(BenchError, match="sequences"):
        MODELS[name](TokenSpace(5, 5))
    with pytest.raises(BenchError, match="did you mean 'width'"):
        MODELS[name](SPACE, widht=8)


def test_reconstructions_and_codes(fitted: Callable, digits: Tensor) -> None:
    for name in ("autoencoder", "vae"):
        model = fitted(name)
        with torch.inference_mode():
            z = model.encode(digits[:5])
            assert z.shape == (5, model.config.latent)
            torch.testing.assert_close(model.decode(z), model.reconstruct(digits[:5]))


def test_autoencoder_without_its_prior_says_so() -> None:
    with pytest.raises(BenchError, match="fit_prior"):
        MODELS["autoencoder"](SPACE).sample(2, SampleGenerator(0, 2))
