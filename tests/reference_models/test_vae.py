"""The variational autoencoder: its bound, and what it learns."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, VectorSpace
from reference_models.vae import VAE


class Affine(nn.Module):
    """x -> (A x + b, constant log variances): the exact posterior of a linear-Gaussian model is of this form."""

    def __init__(self, matrix: Tensor, offset: Tensor, log_variance: Tensor) -> None:
        super().__init__()
        self.matrix, self.offset, self.log_variance = matrix, offset, log_variance

    def forward(self, x: Tensor) -> Tensor:
        mean = x @ self.matrix.T + self.offset
        return torch.cat([mean, self.log_variance.expand(len(x), -1)], 1)


@pytest.mark.parametrize("exact", [True, False])
def test_nll_bounds_the_true_nll_and_reaches_it_at_the_exact_posterior(exact: bool) -> None:
    """p(x) = N(b, W W^T + s^2 I) for a linear decoder; orthogonal columns give a posterior with diagonal covariance."""
    torch.manual_seed(0)
    latent, size, s = 2, 3, 0.4
    model = VAE(VectorSpace(size), latent=latent, likelihood="gaussian").eval()
    w = torch.linalg.qr(torch.randn(size, latent))[0] * torch.tensor([1.5, 0.6])
    b = torch.randn(size)
    linear = nn.Linear(latent, size)
    with torch.no_grad():
        linear.weight.copy_(w)
        linear.bias.copy_(b)
        model.log_scale.fill_(math.log(s))
    precision = 1 + w.square().sum(0) / s**2
    matrix = (w / s**2 / precision).T
    model.decoder = linear
    model.encoder = Affine(matrix, -matrix @ b, -precision.log() + (0.0 if exact else 1.0))
    x = b + torch.randn(200, latent) @ w.T + s * torch.randn(200, size)
    true = -torch.distributions.MultivariateNormal(b, w @ w.T + s**2 * torch.eye(size)).log_prob(x)
    gap = model.nll(x) - true
    if exact:
        assert abs(float(gap.mean())) < 0.02
    else:  # KL between the posteriors: (e - 1 - 1) / 2 per latent dimension
        assert float(gap.mean()) == pytest.approx(latent * (math.e - 2) / 2, abs=0.1)


def test_nll_is_deterministic_and_independent_of_the_batch(digits: Tensor) -> None:
    model = VAE(ImageSpace(1, 8, 8), width=8).eval()
    nll = model.nll(digits[:20])
    assert torch.equal(nll, model.nll(digits[:20]))
    torch.testing.assert_close(model.nll(digits[7:9]), nll[7:9], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("likelihood", ["logistic", "gaussian"])
def test_learns_digits_within_8_bits(likelihood: str, digits: Tensor, train: Callable) -> None:
    """Far fewer bits than the 8 of raw pixels; reconstructions nearer than the mean image; a calibrated noise scale."""
    torch.manual_seed(0)
    model = VAE(ImageSpace(1, 8, 8), width=16, likelihood=likelihood)
    train(model, digits, 400)
    bits = float(model.nll(digits).mean()) / (64 * math.log(2))
    assert 2 < bits < 6.5
    with torch.no_grad():
        error = (model.reconstruct(digits) - digits).square().mean()
    assert error < 0.5 * digits.var(0).mean()
    deviation = float(model.log_scale.detach().exp()) * (math.pi / math.sqrt(3) if likelihood == "logistic" else 1.0)
    assert 1 < deviation / float(error.sqrt()) < 3, (
        "as wide as the error, which the code's own noise adds to in training"
    )


def test_beta_weighs_the_divergence(digits: Tensor, train: Callable) -> None:
    """A large beta empties the code."""
    divergence = {}
    for beta in (1.0, 50.0):
        torch.manual_seed(0)
        losses = train(VAE(ImageSpace(1, 8, 8), width=8, beta=beta, warm_up=0.0), digits, 150)
        divergence[beta] = losses[-1]["kl"]
    assert divergence[50.0] < 0.3 * divergence[1.0]


def test_warm_up_starts_without_the_divergence(digits: Tensor) -> None:
    """At progress 0 the encoder gets no gradient from the KL term: a huge beta changes nothing."""
    weights = []
    for beta in (0.0, 1e6):
        torch.manual_seed(0)
        model = VAE(ImageSpace(1, 8, 8), width=8, beta=beta, warm_up=0.5)
        torch.manual_seed(1)
        model.train_step(Batch(digits[:16]), 0.0)
        weights.append(next(model.encoder.parameters()).detach().clone())
    assert torch.equal(*weights)


def test_vector_samples_follow_the_data(ring: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = VAE(VectorSpace(2), likelihood="gaussian")
    train(model, ring, 400, batch_size=256)
    with torch.inference_mode():
        x = model.sample(2000, SampleGenerator(0, 2000))
    torch.testing.assert_close(x.mean(0), ring.mean(0), atol=0.25, rtol=0)
    torch.testing.assert_close(x.std(0), ring.std(0), atol=0.2, rtol=0)


@pytest.fixture(scope="module")
def learned(digits: Tensor, train: Callable) -> VAE:
    torch.manual_seed(0)
    model = VAE(ImageSpace(1, 8, 8), width=16)
    train(model, digits, 400)
    return model


def test_interpolations_end_at_the_reconstructions(learned: VAE, digits: Tensor) -> None:
    first, last = digits[:6], digits[6:12]
    with torch.inference_mode():
        path = learned.interpolate(first, last, 9)
        assert path.shape == (9, 6, 1, 8, 8)
        assert path.abs().max() <= 1
        torch.testing.assert_close(path[0], learned.reconstruct(first))
        torch.testing.assert_close(path[-1], learned.reconstruct(last))
        middle = learned.decode((learned.encode(first) + learned.encode(last)) / 2)
        torch.testing.assert_close(path[4], middle, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(path.flip(0), learned.interpolate(last, first, 9), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            learned.interpolate(first, first, 3), learned.reconstruct(first).expand(3, -1, -1, -1, -1)
        )
    with pytest.raises(ValueError, match="2 steps, got 1"):
        learned.interpolate(first, last, 1)


def test_interpolations_are_smooth(learned: VAE, digits: Tensor) -> None:
    """Many small steps instead of one jump: none is a large part of the way, and twice as many are half as large."""
    first, last = digits[:16], digits[16:32]
    with torch.inference_mode():
        coarse, fine = (
            learned.interpolate(first, last, steps).diff(dim=0).flatten(2).norm(dim=2) for steps in (21, 41)
        )
        apart = (learned.reconstruct(last) - learned.reconstruct(first)).flatten(1).norm(dim=1)
    assert (coarse.max(0).values < 0.35 * apart).all()
    torch.testing.assert_close(fine.sum(0), coarse.sum(0), rtol=0.05, atol=0.0)
    assert float((fine.max(0).values / coarse.max(0).values).mean()) == pytest.approx(0.5, abs=0.1)


def test_interpolations_stay_among_the_data(learned: VAE, digits: Tensor) -> None:
    """Half way between two codes there is still a digit: nearer to some training image than the mean of the two images is."""
    first, last = digits[:64], digits[64:128]
    with torch.inference_mode():
        middle = learned.interpolate(first, last, 3)[1]
    blend = (first + last) / 2
    nearest = [torch.cdist(x.flatten(1), digits.flatten(1)).min(1).values.mean() for x in (middle, blend)]
    assert nearest[0] < 0.95 * nearest[1]


def test_the_fitted_mixture_is_sampled_and_bounds_the_likelihood(learned: VAE, digits: Tensor) -> None:
    """One Gaussian with the moments of N(0, I) gives the bound of N(0, I); the fitted mixture, nearer to the codes, a better one."""
    model = VAE(ImageSpace(1, 8, 8), width=16, components=5)
    model.load_state_dict(learned.state_dict(), strict=False)
    model.eval()
    with pytest.raises(BenchError, match="fit_prior"):
        model.sample(2, SampleGenerator(0, 2))
    torch.testing.assert_close(model.nll(digits), learned.nll(digits), rtol=0, atol=1.0)
    torch.testing.assert_close(model.nll(digits).mean(), learned.nll(digits).mean(), rtol=1e-3, atol=0)
    loader = [Batch(part) for part in digits.split(100)]
    model.fit_prior(loader)
    fitted = {name: tensor.clone() for name, tensor in model.prior.state_dict().items()}
    assert model.nll(digits).mean() < learned.nll(digits).mean() - 0.5
    assert not torch.equal(model.nll(digits[:3]), learned.nll(digits[:3]))
    codes = model.prior.sample(SampleGenerator(0, 4000))
    mean, log_variance = (part.detach() for part in model.posterior(digits))
    torch.testing.assert_close(codes.mean(0), mean.mean(0), atol=0.1, rtol=0)
    aggregate = mean.var(0) + log_variance.exp().mean(0)  # of a draw for each example
    torch.testing.assert_close(codes.var(0), aggregate, atol=0.15, rtol=0.15)
    model.fit_prior(loader)
    for name, tensor in model.prior.state_dict().items():
        assert torch.equal(tensor, fitted[name]), name


def test_without_components_nothing_is_fitted(learned: VAE, digits: Tensor) -> None:
    before = learned.sample(3, SampleGenerator(0, 3))
    learned.fit_prior([Batch(digits)])
    assert torch.equal(learned.sample(3, SampleGenerator(0, 3)), before)


def test_wrong_options() -> None:
    for wrong in (
        {"latent": 0},
        {"beta": -1.0},
        {"warm_up": 2.0},
        {"likelihood": "bernoulli"},
        {"learning_rate": 0.0},
        {"components": -1},
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            VAE(VectorSpace(2), **wrong)
