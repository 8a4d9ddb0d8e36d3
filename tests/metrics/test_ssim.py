import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.metrics.ssim import MS_SSIM_WEIGHTS, ms_ssim, ms_ssim_scales, ssim


def pair(shape, noise, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, shape, dtype=np.uint8)
    return first, np.clip(first + rng.normal(0, noise, shape), 0, 255).astype(np.uint8)


def as_piq(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255


@pytest.mark.peer
@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (3, 40, 29, 1), (2, 11, 11, 3)])
def test_ssim_equals_scikit_image_and_piq(shape):
    piq = pytest.importorskip("piq")
    from skimage.metrics import structural_similarity

    first, second = pair(shape, 40)
    ours = ssim(first, second)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    reference = [structural_similarity(x, y, data_range=255, channel_axis=-1, **window) for x, y in zip(first, second)]
    assert ours == pytest.approx(reference, abs=1e-12)
    theirs = piq.ssim(as_piq(first), as_piq(second), data_range=1.0, reduction="none", downsample=False)
    assert ours == pytest.approx(theirs.numpy(), abs=1e-12)


@pytest.mark.peer
@pytest.mark.parametrize(("shape", "scales"), [((2, 192, 256, 3), 5), ((2, 96, 96, 1), 4), ((3, 32, 32, 3), 2)])
def test_ms_ssim_equals_piq(shape, scales):
    piq = pytest.importorskip("piq")
    first, second = pair(shape, 40, seed=1)
    assert ms_ssim_scales(*shape[1:3]) == scales
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales], dtype=torch.float64)
    if scales < 5:
        weights = weights / weights.sum()
    theirs = piq.multi_scale_ssim(
        as_piq(first), as_piq(second), data_range=1.0, reduction="none", scale_weights=weights if scales < 5 else None
    )
    assert ms_ssim(first, second) == pytest.approx(theirs.numpy(), abs=1e-9)


def test_equal_images_have_one_and_constant_images_their_closed_form():
    first, _ = pair((3, 24, 24, 3), 1)
    assert ssim(first, first) == pytest.approx(1)
    assert ms_ssim(first, first) == pytest.approx(1)
    black, grey = np.zeros((1, 16, 16, 1), np.uint8), np.full((1, 16, 16, 1), 51, np.uint8)  # 51 / 255 = 0.2
    assert ssim(black, grey) == pytest.approx(1e-4 / (0.04 + 1e-4))  # only the luminance term is left


def test_more_noise_is_less_similar_and_batches_change_nothing():
    values = []
    for noise in (2, 10, 40, 100):
        first, second = pair((20, 24, 24, 1), noise)
        values.append((ssim(first, second).mean(), ms_ssim(first, second).mean()))
        assert np.array_equal(ssim(first, second, batch_size=3), ssim(first, second))
    assert values == sorted(values, reverse=True)


def test_small_or_unequal_images_are_refused():
    with pytest.raises(BenchError, match="at least 11"):
        ssim(*pair((2, 8, 8, 1), 1))
    with pytest.raises(BenchError, match="one shape"):
        ssim(np.zeros((2, 16, 16, 1), np.uint8), np.zeros((2, 16, 16, 3), np.uint8))
