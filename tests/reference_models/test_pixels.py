"""Errors of predicted pixels as they are once clipped."""

import pytest
import torch
import torch.nn.functional as F

from reference_models.pixels import censored, squared_error

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
    assert float(error) == pytest.approx(counted)
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
