import numpy as np
import pytest

from bench.sanity import corruptions as known
from bench.sanity.toys import PCAAutoencoder, PixelHistogram
from bench.space import ImageSpace


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(40, 216, (30, 16, 16, 3)).astype(np.uint8)


def test_noise_has_its_strength_and_repeats(images):
    grey = np.full((30, 16, 16, 1), 128, np.uint8)
    noise = known.noisy(grey, 0.1, np.random.default_rng(1)).astype(float) - 128
    assert noise.std() == pytest.approx(25.5, rel=0.03)
    again = [known.of_pixels(known.NOISE, images, 0.1, seed=3) for _ in range(2)]
    assert (again[0] == again[1]).all()
    assert (again[0] != known.of_pixels(known.NOISE, images, 0.1, seed=4)).any()


@pytest.mark.parametrize("corruption", [known.NOISE, known.BLUR, known.JPEG])
def test_stronger_corruption_changes_more(images, corruption):
    changed = [
        np.square(known.of_pixels(corruption, images, strength, 0).astype(float) - images).mean()
        for strength in corruption.strengths
    ]
    assert changed == sorted(changed)
    assert 0 < changed[1] < changed[-1], "the weakest blur of 16 pixels is below one grey level"


def test_blur_leaves_constants_and_channels_apart(images):
    assert (known.blurred(np.full((2, 16, 16, 3), 77, np.uint8), 0.1) == 77).all()
    one = np.zeros((1, 16, 16, 3), np.uint8)
    one[..., 0] = images[:1, ..., 0]
    assert not known.blurred(one, 0.1)[..., 1:].any()


def test_dropped_modes_are_gone_and_nobody_comes_twice():
    modes = np.repeat(np.arange(10), 30)
    for strength, left in ((0.0, 10), (0.1, 9), (0.5, 5), (0.7, 3)):
        rows = known.without_modes(modes, 80, strength, np.random.default_rng(2))
        assert len(rows) == len(set(rows)) == 80
        assert len(set(modes[rows])) == left


def test_copies_are_as_many_as_said():
    for strength in (0.2, 0.9):
        rows = known.with_copies(100, strength, np.random.default_rng(3))
        assert len(rows) == 100
        assert len(set(rows)) == 100 - round(100 * strength)


def test_wrong_labels_are_wrong_and_as_many_as_said():
    labels = np.random.default_rng(4).choice([1, 4, 7], 200)
    changed = known.wrong_labels(labels, 0.25, np.random.default_rng(5))
    assert (changed != labels).sum() == 50
    assert set(changed) <= {1, 4, 7}


def test_toys_do_what_they_say():
    rng = np.random.default_rng(6)
    space = ImageSpace(1, 8, 8)
    basis = rng.normal(size=(3, 64))
    train = np.clip(128 + 20 * rng.normal(size=(200, 3)) @ basis, 0, 255).astype(np.uint8).reshape(-1, 8, 8, 1)
    toy = PCAAutoencoder(train, space, components=10)
    from bench.metrics.reconstruction import reconstruct

    assert np.abs(reconstruct(toy, train, space).astype(int) - train).mean() < 8
    halves = np.where(rng.random((500, 2, 2, 1)) < 0.25, 10, 200).astype(np.uint8)
    from bench.metrics.likelihood import nats_per_example

    entropy = 4 * -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    exact = nats_per_example(PixelHistogram(halves, 0.0), halves, ImageSpace(1, 2, 2)).mean()
    assert exact == pytest.approx(entropy, abs=0.15)
    assert nats_per_example(PixelHistogram(halves, 1.0), halves, ImageSpace(1, 2, 2)).mean() == pytest.approx(
        4 * np.log(256)
    )
