import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.likelihood import bits_per_dim
from bench.metrics.model_input import to_images, to_model
from bench.metrics.perceptual import ms_ssim_diversity
from bench.metrics.reconstruction import (
    Reconstruction,
    add_noise,
    anomaly_auroc,
    denoising_gain,
    mean_ssim,
    mse,
    psnr,
    psnr_per_image,
    reconstruct,
    squared_errors,
)
from bench.metrics.ssim import ms_ssim
from bench.space import ImageSpace, TokenSpace, VectorSpace


class PCAReconstruction:
    """A linear autoencoder in closed form: projection on the first principal components of its training images."""

    def __init__(self, train, components):
        self.pca = PCA(components).fit(train)

    def reconstruct(self, x):
        flat = self.pca.inverse_transform(self.pca.transform(x.reshape(len(x), -1).double().numpy()))
        return torch.from_numpy(flat).float().reshape(x.shape)


def digits_with_class_held_out(size=16, held_out=None):
    loaded = load_digits()
    images = np.kron(loaded.images[:1200], np.ones((size // 8, size // 8)))
    images = (images * 255 / 16).round().astype(np.uint8)[..., None]
    train, test, train_labels, test_labels = images[:800], images[800:], loaded.target[:800], loaded.target[800:1200]
    if held_out is not None:
        keep = train_labels != held_out
        train, train_labels = train[keep], train_labels[keep]
    return Data("digits", ImageSpace(1, size, size), train, test, train_labels, test_labels)


def evidence(data, model, **more):
    return Evidence(data=data, samples=data.test, features=lambda split, layer: np.zeros((0, 0)), model=model, **more)


def linear_model(data, components):
    return PCAReconstruction(to_model(data.train, data.space).reshape(len(data.train), -1).numpy(), components)


def test_closed_forms():
    black = np.zeros((40, 4, 4, 3), np.uint8)
    grey = np.full_like(black, 51)
    assert float(mse(black, grey)) == pytest.approx(0.04)
    assert float(psnr(black, grey)) == pytest.approx(-10 * np.log10(0.04))
    assert float(psnr(black, black)) == pytest.approx(10 * np.log10(255**2 * 12))
    assert mse(black, grey).n == 40
    assert (mse(black, grey).direction, psnr(black, grey).direction) == ("lower", "higher")
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert squared_errors(vectors, vectors + 2) == pytest.approx(4, rel=1e-5)


@pytest.mark.peer
def test_psnr_equals_scikit_image_and_piq():
    piq = pytest.importorskip("piq")
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(1)
    first = rng.integers(0, 256, (5, 12, 9, 3), dtype=np.uint8)
    second = add_noise(first, 0.1, seed=2)
    reference = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(first, second)]
    assert psnr_per_image(first, second) == pytest.approx(reference, abs=1e-12)
    scaled = [torch.from_numpy(z).permute(0, 3, 1, 2).double() / 255 for z in (first, second)]
    assert psnr_per_image(first, second) == pytest.approx(piq.psnr(*scaled, reduction="none").numpy(), abs=1e-4)


def test_images_survive_the_way_to_the_model_and_back():
    images = np.random.default_rng(3).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
    tensor = to_model(images, ImageSpace(3, 5, 7))
    assert tensor.shape == (6, 3, 5, 7)
    assert tensor.min() >= -1
    assert np.array_equal(to_images(tensor), images)
    with pytest.raises(BenchError, match="does not hold"):
        to_model(images, ImageSpace(3, 7, 5))


def test_a_wider_bottleneck_reconstructs_better_in_every_measurement():
    data = digits_with_class_held_out()
    rows = [{m.name: m for m in Reconstruction().measure(evidence(data, linear_model(data, k)))} for k in (2, 8, 32)]
    for name, order in (("reconstruction_mse", -1), ("reconstruction_psnr", 1), ("reconstruction_ssim", 1)):
        values = [order * float(row[name]) for row in rows]
        assert values == sorted(values), name
        assert rows[0][name].direction == ("lower" if order < 0 else "higher")
        assert rows[0][name].low < float(rows[0][name]) < rows[0][name].high
    assert "anomaly_auroc" not in rows[0]
    assert set(rows[0]) >= {"denoising_gain_0.1", "denoising_gain_0.25", "denoising_gain_0.5"}


def test_projection_denoises_and_identity_does_not():
    data = digits_with_class_held_out()
    noisy = add_noise(data.test, 0.25, seed=0)
    assert float(denoising_gain(data.test, noisy, noisy, 0.25)) == 0
    projected = reconstruct(linear_model(data, 12), noisy, data.space)
    assert denoising_gain(data.test, noisy, projected, 0.25).low > 2
    blackened = denoising_gain(data.test, noisy, np.zeros_like(noisy), 0.25)
    assert blackened.high < 0


def test_noise_is_seeded_and_has_its_level():
    grey = np.full((50, 16, 16, 1), 128, np.uint8)
    noisy = add_noise(grey, 0.1, seed=4)
    assert np.array_equal(noisy, add_noise(grey, 0.1, seed=4))
    assert noisy.astype(float).std() == pytest.approx(25.5, rel=0.03)


def test_a_held_out_class_is_found_by_its_error():
    data = digits_with_class_held_out(held_out=0)
    found = {m.name: m for m in Reconstruction().measure(evidence(data, linear_model(data, 12)))}
    assert found["anomaly_auroc"].low > 0.7
    assert found["anomaly_auroc"].n == len(data.test)
    assert found["reconstruction_mse"].n == (data.test_labels != 0).sum()
    same = squared_errors(data.test[:100], data.test[100:200])
    assert anomaly_auroc(same[:50], same[50:]).low < 0.5 < anomaly_auroc(same[:50], same[50:]).high


def test_an_error_that_is_nan_has_no_rank():
    errors = np.arange(30.0)
    spoilt = np.where(errors == 7, np.nan, errors)
    with pytest.raises(BenchError, match="normal_errors number 7 is NaN"):
        anomaly_auroc(spoilt, errors)
    with pytest.raises(BenchError, match="anomalous_errors number 7 is NaN"):
        anomaly_auroc(errors, spoilt)
    assert float(anomaly_auroc(errors, np.full(30, np.inf))) == 1


def test_a_model_that_diverged_has_no_auroc_and_a_note():
    x = np.random.default_rng(8).normal(size=(80, 3)).astype(np.float32)
    labels = np.arange(80) % 2
    data = Data("v", VectorSpace(3), x[labels == 0], x, labels[labels == 0], labels)

    class Diverged:
        def reconstruct(self, given):
            return torch.where(given > 1, torch.nan, given)

    found = {m.name: m for m in Reconstruction().measure(evidence(data, Diverged()))}
    assert np.isnan(found["anomaly_auroc"])
    assert found["anomaly_auroc"].low is None
    assert "reconstruction errors are NaN" in found["anomaly_auroc"].note
    assert found["anomaly_auroc"].n == 80
    assert "NaN" in found["reconstruction_mse"].note


def test_rfd_is_named_after_its_features_and_falls_with_a_wider_bottleneck():
    pytest.importorskip("bench.metrics.frechet")
    data = digits_with_class_held_out()

    def extract(images, layer):  # eight fixed random projections of the pixels
        basis = np.random.default_rng(0).normal(size=(images[0].size, 8)) / 100
        return (images.reshape(len(images), -1) / 255 @ basis).astype(np.float32)

    def rfd(components, **extractor):
        found = Reconstruction().measure(evidence(data, linear_model(data, components), extract=extract, **extractor))
        return {m.name: float(m) for m in found if m.name.startswith("rf")}

    coarse = rfd(2, extractor="pixels", layers={"final": 8, "logits": 8})
    fine = rfd(32, extractor="pixels", layers={"final": 8, "logits": 8})
    assert list(coarse) == ["rfd_pixels_final"]
    assert fine["rfd_pixels_final"] < coarse["rfd_pixels_final"] / 5
    assert list(rfd(2, extractor="inception", layers={"pool": 8})) == ["rfid"]


def test_batches_and_order_change_nothing():
    data = digits_with_class_held_out()
    model = linear_model(data, 5)
    whole = reconstruct(model, data.test, data.space)
    assert np.array_equal(whole, reconstruct(model, data.test, data.space, batch_size=13))
    order = np.random.default_rng(5).permutation(len(whole))
    assert mse(data.test[order], whole[order]).high == pytest.approx(mse(data.test, whole).high, abs=1e-12)


def test_vectors_have_an_mse_only_and_tokens_nothing():
    x = np.random.default_rng(6).normal(size=(300, 4)).astype(np.float32)
    data = Data("v", VectorSpace(4), x, x)
    assert [m.name for m in Reconstruction().measure(evidence(data, PCAReconstruction(x, 2)))] == ["reconstruction_mse"]
    tokens = np.zeros((4, 3), np.int64)
    assert Reconstruction().measure(evidence(Data("t", TokenSpace(5, 3), tokens, tokens), None)) == []


def test_unequal_shapes_are_refused():
    with pytest.raises(BenchError, match="must agree"):
        mse(np.zeros((3, 4), np.float32), np.zeros((4, 4), np.float32))


def test_tensors_and_lists_are_taken_like_arrays():
    rng = np.random.default_rng(np.random.randint(2**31))
    images, rebuilt, noisy = rng.integers(0, 256, (3, 40, 16, 16, 3)).astype(np.uint8)
    tensors = [torch.from_numpy(each) for each in (images, rebuilt, noisy)]
    for function in (mse, psnr, mean_ssim):
        assert float(function(*tensors[:2])) == float(function(images, rebuilt))
    assert float(denoising_gain(*tensors, 0.1)) == float(denoising_gain(images, rebuilt, noisy, 0.1))
    assert np.array_equal(ms_ssim(*tensors[:2]), ms_ssim(images, rebuilt))
    assert float(ms_ssim_diversity(tensors[0], torch.arange(40) % 2)) == float(
        ms_ssim_diversity(images, np.arange(40) % 2)
    )
    vectors = rng.normal(size=(2, 40, 5))
    due = float(mse(*vectors))
    assert float(mse(*vectors.tolist())) == due
    assert float(mse(*torch.from_numpy(vectors).requires_grad_())) == due
    scores = rng.normal(size=(2, 30))
    assert float(anomaly_auroc(*torch.from_numpy(scores).requires_grad_())) == float(anomaly_auroc(*scores))
    nats = torch.from_numpy(rng.gamma(2, 900, 40)).requires_grad_()
    assert float(bits_per_dim(nats, 768, "exact")) == float(bits_per_dim(nats.detach().numpy(), 768, "exact"))


@pytest.mark.parametrize("convert", [lambda x: x.astype(np.float32), lambda x: x / 255, lambda x: x.reshape(40, -1)])
def test_pixels_whose_peak_is_unknown_have_no_psnr(convert):
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(BenchError, match=r"images must be uint8 \(N, H, W, C\)"):
        psnr(convert(images), convert(images))
    with pytest.raises(BenchError, match="images must be uint8"):
        denoising_gain(convert(images), convert(images), convert(images), 0.1)
