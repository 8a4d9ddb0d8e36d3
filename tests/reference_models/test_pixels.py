"""Errors of predicted pixels as they are once clipped."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, ImageSpace, VectorSpace
from reference_models.autoencoder import Autoencoder
from reference_models.consistency import Consistency
from reference_models.ddpm import DDPM
from reference_models.denoising_autoencoder import DenoisingAutoencoder
from reference_models.edm import EDM
from reference_models.flow_matching import FlowMatching
from reference_models.guidance import guided
from reference_models.latent_diffusion import LatentDiffusion
from reference_models.pixels import censored, squared_error
from reference_models.vqvae import VQVAE

BLACK, WHITE, GREY = -1.0, 1.0, 0.25


@pytest.mark.parametrize(
    ("pixel", "prediction", "counted"),
    [
        (BLACK, -1.5, 0.0),
        (WHITE, 3.0, 0.0),
        (BLACK, 1.5, 2.5),
        (WHITE, -2.0, -3.0),
        (GREY, -1.5, -1.75),
        (BLACK, -0.5, 0.5),
    ],
)
def test_only_what_clipping_leaves_is_an_error(pixel: float, prediction: float, counted: float) -> None:
    predicted = torch.tensor([prediction], requires_grad=True)
    error = censored(predicted, torch.tensor([pixel])) - pixel
    error.sum().backward()
    assert float(error.detach()) == pytest.approx(counted)
    assert float(predicted.grad) == float(counted != 0)


def test_the_best_prediction_of_an_uncertain_pixel_is_its_mean() -> None:
    """Nine times black, once grey: no prediction beyond black gains anything."""
    pixels = torch.full((1, 1000), BLACK)
    pixels[:, ::10] = GREY
    predictions = torch.linspace(-1.5, 1, 251)[:, None]
    losses = (censored(predictions.expand(-1, 1000), pixels) - pixels).square().mean(1)
    assert float(predictions[losses.argmin()]) == pytest.approx(float(pixels.mean()), abs=0.01)


def test_black_that_is_learned_with_noise_is_black_once_clipped() -> None:
    """A predictor with an error of its own: against the squared error its bias stays at black and half of its errors remain."""
    generator, left = torch.Generator().manual_seed(0), {}
    for pixels in (False, True):
        bias = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.SGD([bias], lr=0.5)
        for _ in range(400):
            noise = 0.1 * torch.randn(500, generator=generator)
            optimizer.zero_grad()
            squared_error(bias + noise, torch.full((500,), BLACK), pixels=pixels).backward()
            optimizer.step()
        noise = 0.1 * torch.randn(10_000, generator=generator)
        left[pixels] = float(((bias.detach() + noise).clamp(-1, 1) - BLACK).mean())
    assert left[False] == pytest.approx(0.04, abs=0.01)
    assert left[True] < 0.2 * left[False]


def test_vectors_have_no_ends() -> None:
    x, prediction = torch.randn(5, 2), 3 * torch.randn(5, 2)
    assert squared_error(prediction, x, pixels=False) == F.mse_loss(prediction, x)


class Beyond(nn.Module):
    """A network whose every output is -1.5, wherever it is asked."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, *more: Any, **options: Any) -> Tensor:
        return torch.full_like(x, -1.5) + 0 * self.weight


class BeyondDecoder(Beyond):
    def __init__(self, weight: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__(weight)
        self.shape = shape

    def forward(self, z: Tensor, *more: Any) -> Tensor:
        return torch.full((len(z), *self.shape), -1.5) + 0 * self.weight + 0 * z.sum()


@pytest.mark.parametrize("model", [Autoencoder, DenoisingAutoencoder, VQVAE, LatentDiffusion, DDPM, FlowMatching])
def test_overshooting_black_costs_no_model_anything(model: type) -> None:
    """Every model whose network or decoder gives pixels, on images that are all black."""
    trained = model(ImageSpace(1, 8, 8), width=8) if model is not LatentDiffusion else model(ImageSpace(1, 8, 8))
    black = torch.full((4, 1, 8, 8), -1.0)
    if hasattr(trained, "decoder"):
        trained.decoder = BeyondDecoder(torch.zeros(()), (1, 8, 8))
    else:
        trained.network = Beyond(torch.zeros(()))
    losses = trained.train_step(Batch(black), 0.1)
    error = float(losses.get("mse", losses.get("loss")))
    slack = 0.05 if model is LatentDiffusion else 0  # its loss has the divergence of the latents, too
    assert error <= slack
    grey = trained.train_step(Batch(torch.zeros(4, 1, 8, 8)), 0.1)
    assert float(grey.get("mse", grey.get("loss"))) > 1


@pytest.mark.parametrize("model", [EDM, Consistency])
def test_denoisers_with_a_skip_count_no_overshooting(model: type) -> None:
    """D = c_skip x + c_out network: the error is of D, which here lies beyond black at every level. (The smallest level of a
    consistency model gives x itself, which is noise about the pixels: less than half a grey level here.)"""
    trained = model(ImageSpace(1, 8, 8), width=8, sigma_min=0.0005)
    trained.network.forward = lambda x, t: torch.full_like(x, -1e4) + 0 * next(trained.network.parameters()).sum()
    assert float(trained.train_step(Batch(torch.full((64, 1, 8, 8), -1.0)), 0.1)["loss"]) == 0
    if model is EDM:  # the target of a consistency model is its own output
        assert float(trained.train_step(Batch(torch.zeros(64, 1, 8, 8)), 0.1)["loss"]) > 1


@pytest.mark.parametrize("model", [EDM, Consistency])
def test_the_deviation_of_the_data_follows_the_space(model: type) -> None:
    assert model(ImageSpace(1, 8, 8), width=8).sigma_data == 0.5
    assert model(VectorSpace(2)).sigma_data == 1.0
    assert model(VectorSpace(2), sigma_data=0.3).sigma_data == 0.3


@pytest.mark.parametrize("model", [DDPM, FlowMatching, EDM, Autoencoder])
def test_vectors_beyond_one_are_errors(model: type) -> None:
    trained = model(VectorSpace(2))
    x = torch.full((64, 2), -1.0)
    losses = trained.train_step(Batch(x), 0.1)
    assert next(iter(losses.values())) > 1e-3


def test_guidance_does_not_extrapolate_what_clipping_hides() -> None:
    """With the condition -1.05, without it -1.20: both are black, and so is what lies beyond their difference."""

    def network(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return torch.where(label == 1, -1.05, -1.2).view(-1, 1).expand_as(x)

    x, ones = torch.zeros(3, 2), torch.ones(3)
    for scale in (1.5, 4.0):
        black = guided(network, x, 0.5, [ones], [0 * ones], scale, pixels=True)
        assert torch.equal(black.clamp(-1, 1), torch.full_like(x, -1.0))
        noise = guided(network, x, 0.5, [ones], [0 * ones], scale, pixels=False)
        torch.testing.assert_close(noise, torch.full_like(x, -1.2 + scale * 0.15))


def test_paths_of_flow_matching_lead_to_pixels_in_their_range() -> None:
    trained = FlowMatching(ImageSpace(1, 8, 8), width=8).eval()
    trained.network = Beyond(torch.zeros(()))
    x = torch.full((2, 1, 8, 8), -1.0)
    assert torch.equal(trained.velocity(x, 0.5), torch.zeros_like(x)), "at black already"
