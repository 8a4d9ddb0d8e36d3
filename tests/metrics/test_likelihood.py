import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.likelihood import (
    PNG_CONTAINER_BYTES,
    Likelihood,
    bits_per_dim,
    compression_vs_png,
    kl_from_truth,
    nats_per_example,
    nll,
    png_pixel_bits,
)
from bench.space import ImageSpace, TokenSpace, VectorSpace


class UniformPixels:
    """Every pixel value is as likely as any other: exactly 8 bits per dimension."""

    nll_kind = "exact"

    def nll(self, x):
        return torch.full((len(x),), x[0].numel() * math.log(256))


class DitheredGaussian:
    """A standard normal density plus noise in its value: a stochastic estimate."""

    nll_kind = "estimate"

    def nll(self, x):
        return 0.5 * (x**2).sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi) + 0.01 * torch.randn(len(x))


class KnownGaussian:
    """The density N(mean, I) of vectors, known exactly; as a model it gives nll, as a truth log_prob."""

    nll_kind = "exact"

    def __init__(self, mean):
        self.mean = mean

    def nll(self, x):
        return torch.from_numpy(-self.log_prob(x.numpy()))

    def log_prob(self, x):
        return -0.5 * ((x.astype(np.float64) - self.mean) ** 2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


@pytest.fixture(scope="module")
def digits():
    return (load_digits().images[:200] * 255 / 16).round().astype(np.uint8)[..., None]


def evidence(data, model):
    return Evidence(data=data, samples=data.test, features=lambda split, layer: np.zeros((0, 0)), model=model)


def test_uniform_pixels_cost_eight_bits(digits):
    space = ImageSpace(1, 8, 8)
    found = Likelihood().measure(evidence(Data("digits", space, digits, digits), UniformPixels()))
    assert [m.name for m in found] == ["bits_per_dim_exact", "compression_vs_png_exact"]
    assert float(found[0]) == pytest.approx(8, abs=1e-6)
    assert found[0].unit == "bits/dim"
    assert found[0].direction == "lower"
    assert found[0].n == 200
    assert float(found[1]) == pytest.approx(png_pixel_bits(digits).mean() / 512, rel=1e-6)


def test_the_kind_is_in_every_name_and_a_wrong_kind_is_refused():
    nats = np.random.default_rng(0).normal(500, 10, 50)
    names = {bits_per_dim(nats, 64, kind).name for kind in ("exact", "upper_bound", "estimate")}
    assert names == {"bits_per_dim_exact", "bits_per_dim_upper_bound", "bits_per_dim_estimate"}
    with pytest.raises(BenchError, match="exact, upper_bound or estimate"):
        bits_per_dim(nats, 64, "bound")  # type: ignore[arg-type]


@pytest.mark.parametrize("nats", [np.linspace(-1, 300, 40), np.linspace(-300, -1, 40), np.zeros(40)])
def test_what_is_no_code_length_is_not_compared_with_png(nats, digits):
    with pytest.raises(BenchError, match="no lengths of a code"):
        compression_vs_png(nats, np.full(40, 100.0), "exact")

    class Given:
        nll_kind = "exact"

        def nll(self, x):
            return torch.from_numpy(nats[: len(x)])

    space = ImageSpace(1, 8, 8)
    found = Likelihood().measure(evidence(Data("digits", space, digits[:40], digits[:40]), Given()))
    assert [m.name for m in found] == ["bits_per_dim_exact", "compression_vs_png_exact"]
    assert np.isfinite(float(found[0]))
    assert math.isnan(found[1])
    assert (found[1].low, "below 0" in found[1].note, found[1].n) == (None, True, 40)


@pytest.mark.parametrize("dimensions", [0, -3, 2.5, "64"])
def test_dimensions_are_counted(dimensions):
    with pytest.raises(BenchError, match="dimensions must be"):
        bits_per_dim(np.ones(40), dimensions, "exact")


def test_bits_per_dim_closed_form_and_order():
    nats = np.full(40, 100 * math.log(2))
    assert float(bits_per_dim(nats, 50, "exact")) == pytest.approx(2)
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(values := rng.exponential(size=60))
    assert bits_per_dim(shuffled, 5, "exact").high == pytest.approx(bits_per_dim(values, 5, "exact").high)


def test_a_density_passed_off_as_a_probability_is_noted():
    assert "density" in bits_per_dim(np.full(40, -3.0), 10, "exact").note


def test_gaussian_nll_and_divergence_have_their_closed_forms():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20000, 2)).astype(np.float32)
    data = Data("normal", VectorSpace(2), x, x, truth=KnownGaussian(np.zeros(2)))
    found = {m.name: m for m in Likelihood().measure(evidence(data, KnownGaussian(np.array([1.0, 2.0]))))}
    entropy = 1 + math.log(2 * math.pi)
    assert found["nll_exact"].low <= entropy + 2.5 <= found["nll_exact"].high  # |mean|^2 / 2 = 2.5 above the entropy
    assert found["kl_from_truth_exact"].low <= 2.5 <= found["kl_from_truth_exact"].high
    assert found["kl_from_truth_exact"].high - found["kl_from_truth_exact"].low < 0.15
    perfect = kl_from_truth(-data.truth.log_prob(x), data.truth.log_prob(x), "exact")
    assert (float(perfect), perfect.low) == (0, None)
    assert "all 20000 values are equal" in perfect.note


def test_nll_of_vectors_is_in_nats():
    measured = nll(np.random.default_rng(3).normal(size=100), "upper_bound")
    assert (measured.name, measured.unit) == ("nll_upper_bound", "nats")


def test_tokens_are_measured_per_token():
    class UniformTokens:
        nll_kind = "exact"

        def nll(self, x):
            assert x.dtype == torch.int64
            return torch.full((len(x),), x.shape[1] * math.log(16))

    tokens = np.zeros((40, 7), dtype=np.int64)
    found = Likelihood().measure(evidence(Data("t", TokenSpace(16, 7), tokens, tokens), UniformTokens()))
    assert [m.name for m in found] == ["bits_per_token_exact"]
    assert float(found[0]) == pytest.approx(4, abs=1e-6)


def test_estimates_are_reproducible_and_leave_the_random_state_alone():
    x = np.random.default_rng(4).normal(size=(100, 3)).astype(np.float32)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = nats_per_example(DitheredGaussian(), x, VectorSpace(3), seed=5)
    assert torch.rand(1) == expected
    assert np.array_equal(first, nats_per_example(DitheredGaussian(), x, VectorSpace(3), seed=5))
    assert not np.array_equal(first, nats_per_example(DitheredGaussian(), x, VectorSpace(3), seed=6))


def test_exact_values_do_not_depend_on_the_batch_size():
    x = np.random.default_rng(5).normal(size=(100, 3)).astype(np.float32)
    model = KnownGaussian(np.ones(3))
    small = nats_per_example(model, x, VectorSpace(3), batch_size=7)
    assert np.array_equal(small, nats_per_example(model, x, VectorSpace(3), batch_size=100))


def test_a_model_that_returns_a_mean_is_refused():
    class Averages:
        nll_kind = "exact"

        def nll(self, x):
            return (x**2).mean().reshape(1)

    with pytest.raises(BenchError, match="one value per example"):
        nats_per_example(Averages(), np.zeros((10, 2), np.float32), VectorSpace(2), batch_size=5)


def test_png_bits_are_the_file_without_its_container(digits):
    file = io.BytesIO()
    Image.fromarray(digits[3, :, :, 0]).save(file, "PNG", optimize=True)
    assert png_pixel_bits(digits[3:4])[0] == 8 * (len(file.getvalue()) - PNG_CONTAINER_BYTES)
    noise = np.random.default_rng(6).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    bits_per_value = png_pixel_bits(noise).mean() / noise[0].size
    assert 8 <= bits_per_value < 8.5  # noise cannot be compressed; PNG adds a filter byte a row
    flat = np.zeros((1, 32, 32, 3), np.uint8)
    assert png_pixel_bits(flat)[0] < 400


def test_half_the_bits_of_png_is_a_factor_of_two():
    png = np.random.default_rng(7).uniform(1000, 2000, 50)
    measured = compression_vs_png(png / 2 * math.log(2), png, "upper_bound")
    assert float(measured) == pytest.approx(2)
    assert measured.direction == "higher"
