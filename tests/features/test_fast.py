"""Opt-in speed: granted only where the Fréchet distance stays."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from bench.errors import BenchError
from bench.features.fast import _frechet_distance, compare, faster, speed_up
from bench.features.module import ModuleExtractor


class Pooled(nn.Module):
    """A small convolutional network, seeded."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3))
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        values = self.body(x).mean((2, 3))
        return values * (1 + self.noise)


def extractor(noise: float = 0.0) -> ModuleExtractor:
    return ModuleExtractor(Pooled(noise), 16)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    real = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    return real, ndimage.gaussian_filter(real, (0, 1, 1, 0))


def test_bfloat16_is_checked_and_named(images: tuple[np.ndarray, np.ndarray]) -> None:
    exact = extractor()
    used, check = speed_up(exact, *images, tolerance=0.1)
    assert check.allowed
    assert 1e-5 < check.features < 2e-2, "nothing was rounded, or too much"
    assert used.version != exact.version
    assert used.version.endswith("bfloat16")
    assert used(torch.from_numpy(images[0][:2]))["features"].dtype == torch.float32
    assert "allowed" in str(check)


def test_what_changes_the_distance_is_refused(images: tuple[np.ndarray, np.ndarray]) -> None:
    exact = extractor()
    check = compare(exact, extractor(noise=0.01), *images)
    assert check.distance == pytest.approx(1.01**2 - 1, rel=1e-3)
    assert not check.allowed
    used, check = speed_up(exact, *images, tolerance=1e-9)
    assert used is exact
    assert "refused" in str(check)


@pytest.mark.parametrize(("n", "d"), [(50, 4), (6, 20)])
def test_the_distance_is_that_of_the_definition(n: int, d: int) -> None:
    rng = np.random.default_rng()
    a, b = rng.normal(size=(n, d)), rng.normal(size=(n + 3, d)) * 1.3 + 0.2
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(s)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross
    assert _frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_wrong_use_is_one_sentence(images: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(BenchError, match="nothing to speed up"):
        faster(extractor(), bfloat16=False, compiled=False)
    with pytest.raises(BenchError, match="at least 2 real"):
        speed_up(extractor(), images[0][:1], images[1])
