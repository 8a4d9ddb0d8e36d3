import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.perceptual import (
    LPIPSDiversity,
    MSSSIMDiversity,
    lpips_diversity,
    lpips_diversity_by_class,
    ms_ssim_diversity,
    pairs_within,
    random_pairs,
)
from bench.metrics.ssim import ms_ssim
from bench.space import ImageSpace


class PixelDistance:
    """Mean squared difference of pixels in [0, 1], standing in for a perceptual network."""

    name = "pixels"

    def __call__(self, first, second):
        return ((first.double() - second.double()) / 255).square().flatten(1).mean(1)


def noise_images(n, spread, seed=0, side=16):
    rng = np.random.default_rng(seed)
    return np.clip(128 + spread * rng.normal(size=(n, side, side, 1)), 0, 255).round().astype(np.uint8)


def test_the_mean_distance_has_its_closed_form():
    measured = lpips_diversity(noise_images(400, 20), PixelDistance())
    assert float(measured) == pytest.approx(2 * (20**2 + 1 / 12) / 255**2, rel=0.02)
    assert measured.low < float(measured) < measured.high
    assert (measured.name, measured.n, measured.direction) == ("pixels_diversity", 400, "higher")
    assert float(lpips_diversity(np.repeat(noise_images(1, 20), 80, axis=0), PixelDistance())) == 0


def test_more_spread_is_more_diverse_in_both_measures():
    images = [noise_images(100, spread) for spread in (2, 10, 40)]
    distances = [float(lpips_diversity(x, PixelDistance())) for x in images]
    assert distances == sorted(distances)
    base = noise_images(1, 40, seed=1)
    near = np.clip(base.astype(int) + noise_images(100, 5, seed=2) - 128, 0, 255).astype(np.uint8)
    assert ms_ssim_diversity(near) > ms_ssim_diversity(images[2])  # lower is more diverse
    assert ms_ssim_diversity(near).direction == "lower"


def test_the_interval_covers_the_mean_over_all_pairs():
    rng = np.random.default_rng(3)
    held = []
    truth = 2 * (0.2**2 + 0.05**2)  # two levels of grey: variance between images and within them

    class Floats:
        name = "floats"

        def __call__(self, first, second):
            return (values[first[:, 0, 0, 0].long()] - values[second[:, 0, 0, 0].long()]).square().mean(1)

    for seed in range(150):
        values = torch.from_numpy(0.2 * rng.normal(size=(100, 1)) + 0.05 * rng.normal(size=(100, 30)))
        numbered = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
        measured = lpips_diversity(numbered, Floats(), seed=seed)
        held.append(measured.low <= truth <= measured.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_pairs_are_disjoint_and_seeded():
    images = noise_images(50, 60)
    first, second = random_pairs(images[:11], None, 0)
    assert len(set(first) | set(second)) == 10
    assert len(random_pairs(images[:11], 3, 0)[0]) == 3
    assert np.array_equal(random_pairs(images, None, 4)[0], random_pairs(images, None, 4)[0])
    assert not np.array_equal(random_pairs(images, None, 4)[0], random_pairs(images, None, 5)[0])
    labels = np.array([0] * 7 + [1] * 4 + [2])
    first, second = pairs_within(images[:12], labels, 0)
    assert (labels[first] == labels[second]).all()
    assert len(set(first) | set(second)) == 2 * len(first) == 10
    with pytest.raises(BenchError, match="disjoint pairs"):
        random_pairs(images[:10], 6, 0)


def test_one_picture_a_class_has_diversity_across_but_none_within():
    pictures = noise_images(5, 60)
    labels = np.repeat(np.arange(5), 40)
    within, across = lpips_diversity_by_class(pictures[labels], labels, PixelDistance())
    assert float(within) == 0
    assert across > 0.05
    assert (within.name, across.name) == ("pixels_diversity_within", "pixels_diversity_across")
    named = lpips_diversity_by_class(pictures[labels], np.array(list("abcde"))[labels], PixelDistance())
    assert [float(each) for each in named] == [float(within), float(across)]
    assert float(ms_ssim_diversity(pictures[labels], labels)) == pytest.approx(1)
    assert ms_ssim_diversity(pictures[labels]) < 0.9


def test_ms_ssim_diversity_is_the_mean_over_the_pairs():
    images = noise_images(80, 30)
    first, second = random_pairs(images, None, 2)
    assert float(ms_ssim_diversity(images, seed=2)) == pytest.approx(ms_ssim(images[first], images[second]).mean())
    assert ms_ssim_diversity(images).note == "scales: 1"
    assert ms_ssim_diversity(images).n == 80


def test_the_metrics(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights of LPIPS
    images, labels = noise_images(80, 30), np.repeat(np.arange(4), 20)
    data = Data("n", ImageSpace(1, 16, 16), images, images, labels, labels)
    evidence = Evidence(data=data, samples=images, features=lambda split, layer: np.zeros((0, 0)), sample_labels=labels)
    assert [m.name for m in MSSSIMDiversity().measure(evidence)] == ["ms_ssim_diversity", "ms_ssim_diversity_within"]
    pytest.importorskip("bench.features.pdist")
    found = LPIPSDiversity().measure(evidence)
    assert [m.name for m in found] == [f"pdist_effnetlite0_diversity{end}" for end in ("", "_within", "_across")]
    assert all("not calibrated" in m.note for m in found)


def test_reconstruction_distance_is_the_mean_over_images():
    from bench.metrics.perceptual import reconstruction_distance

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 70, 8, 8, 3)).astype(np.uint8)

    def mean_square(x, y):
        return (x.double() - y.double()).square().flatten(1).mean(1)

    measured = reconstruction_distance(first, second, mean_square)
    assert float(measured) == pytest.approx(np.square(first.astype(float) - second).mean())
    assert measured.n == 70
    assert measured.low < float(measured) < measured.high
    assert float(reconstruction_distance(first, first, mean_square)) == 0
    with pytest.raises(BenchError, match="must agree in shape"):
        reconstruction_distance(first, second[:5], mean_square)
