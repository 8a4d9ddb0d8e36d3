"""Sprites: drawn as their factors say, and read back."""

import numpy as np
import pytest
from skimage.draw import ellipse, polygon

from bench.data.shapes import LEVELS, POSITIONS, ROTATIONS, SCALES, SHAPES, Shapes, SpriteTruth, render


def one(resolution=64, **levels):
    factors = {name: np.array([levels.get(name, 0)]) for name in LEVELS if name != "colour"}
    return render(factors, resolution)[0, ..., 0]


@pytest.fixture(scope="module")
def colour_truth():
    return SpriteTruth(colour=True)


def corners(shape, scale, rotation, x, y, resolution):
    """Pixel coordinates of a regular polygon's corners, with rows downwards."""
    angles = {"square": np.pi / 4 + np.arange(4) * np.pi / 2, "triangle": -np.pi / 2 + np.arange(3) * 2 * np.pi / 3}[
        shape
    ]
    points = np.stack([x + scale * np.cos(angles + rotation), y + scale * np.sin(angles + rotation)])
    return (points + 1) / 2 * resolution - 0.5


@pytest.mark.parametrize("shape", ["square", "triangle"])
@pytest.mark.parametrize(("scale", "rotation", "x", "y"), [(2, 0, 7, 8), (1, 2, 3, 12), (2, 5, 15, 0)])
def test_polygons_cover_what_skimage_draws(shape, scale, rotation, x, y):
    image = one(shape=SHAPES.index(shape), scale=scale, rotation=rotation, x=x, y=y)
    c, r = corners(shape, SCALES[scale], ROTATIONS[rotation], POSITIONS[x], POSITIONS[y], 64)
    drawn = np.zeros((64, 64), dtype=bool)
    drawn[polygon(r, c, drawn.shape)] = True
    assert ((image > 127) != drawn).mean() < 0.004  # edge pixels that both rules round differently
    side = np.hypot(c[1] - c[0], r[1] - r[0])
    area = side**2 if shape == "square" else side**2 * np.sqrt(3) / 4
    assert image.sum() / 255 == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("rotation", [0, 3])
def test_ellipses_cover_what_skimage_draws(rotation):
    image = one(shape=1, scale=2, rotation=rotation, x=9, y=4)
    radius = SCALES[2] * 32
    row, column = ((POSITIONS[level] + 1) * 32 - 0.5 for level in (4, 9))
    drawn = np.zeros((64, 64), dtype=bool)
    drawn[ellipse(row, column, radius / 2, radius, drawn.shape, rotation=-ROTATIONS[rotation])] = True
    assert ((image > 127) != drawn).mean() < 0.004
    assert image.sum() / 255 == pytest.approx(np.pi * radius**2 / 2, rel=0.02)


def test_heart_is_symmetric_and_stays_in_its_circle():
    # between two levels of x there is no pixel symmetry: mirror the factor instead
    left, right = one(shape=3, scale=2, x=5, y=8), one(shape=3, scale=2, x=10, y=8)
    np.testing.assert_array_equal(left, right[:, ::-1])
    row, column = np.nonzero(left > 127)
    centre = (POSITIONS[8] + 1) * 32 - 0.5, (POSITIONS[5] + 1) * 32 - 0.5
    assert np.hypot(row - centre[0], column - centre[1]).max() <= SCALES[2] * 32 + 0.5
    upper, lower = left[: int(centre[0])], left[int(centre[0]) :]
    assert (upper > 127).any(0).sum() > (lower > 127).any(0).sum() * 0.9  # broad lobes above, the tip below


@pytest.mark.parametrize(("resolution", "colour"), [(32, True), (64, True), (32, False)])
def test_factors_are_read_back_exactly(resolution, colour, colour_truth):
    data = Shapes(resolution=resolution, colour=colour, size=100, test_size=400).load()
    assert data.test.shape == (400, resolution, resolution, 3 if colour else 1)
    truth = colour_truth if colour else data.truth
    recognised = truth.recognise(data.test)
    assert recognised.factors.keys() == data.test_factors.keys() == truth.levels.keys()
    for name, levels in data.test_factors.items():
        np.testing.assert_array_equal(recognised.factors[name], levels, err_msg=name)
    assert recognised.error.max() < 4


def test_factors_survive_noise_and_error_measures_it(colour_truth, rng):
    data = Shapes(size=100, test_size=400).load()
    noise = rng.normal(scale=20, size=data.test.shape)
    recognised = colour_truth.recognise(np.clip(128 + 0.5 * (data.test - 128.0) + noise, 0, 255).astype(np.uint8))
    assert recognised.error.min() > 20  # washed out and noisy: no sprite of ours
    noisy = colour_truth.recognise(np.clip(data.test + noise, 0, 255).astype(np.uint8))
    for name, levels in data.test_factors.items():
        assert (noisy.factors[name] == levels).mean() > 0.98, name


def test_every_level_occurs_and_sides_share_no_combination():
    data = Shapes().load()
    for name, count in LEVELS.items():
        assert set(np.unique(data.train_factors[name])) == set(range(count))
        assert data.train_factors[name].dtype == np.int64
    rows = [set(zip(*(f[name].tolist() for name in LEVELS))) for f in (data.train_factors, data.test_factors)]
    assert [len(side) for side in rows] == [10_000, 2_000]
    assert not rows[0] & rows[1]
    np.testing.assert_array_equal(data.train_labels, data.train_factors["shape"])


def test_a_larger_size_keeps_the_images_there_were():
    small, large = Shapes(size=200).load(), Shapes(size=300).load()
    np.testing.assert_array_equal(small.test, large.test)
    np.testing.assert_array_equal(small.train, large.train[:200])
    assert Shapes(size=200, seed=1).load().digest() != small.digest()
