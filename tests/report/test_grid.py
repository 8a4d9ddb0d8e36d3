"""Sample grids: order, no smoothing, size."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from bench.errors import BenchError
from bench.report.grid import contact_sheet, sample_grid, to_png


def test_the_first_samples_stand_in_reading_order_pixel_for_pixel():
    images = np.random.default_rng().integers(0, 256, size=(20, 5, 7, 3), dtype=np.uint8)
    picture = sample_grid(images, rows=2, columns=3, side=14)
    assert picture.shape == (2 * 13 + 3, 3 * 17 + 3, 3)
    for i in range(6):
        top, left = (i // 3) * 13 + 3, (i % 3) * 17 + 3
        tile = picture[top : top + 10, left : left + 14]
        np.testing.assert_array_equal(tile[::2, ::2], images[i])
        np.testing.assert_array_equal(tile[1::2, 1::2], images[i])


def test_fewer_images_make_a_smaller_grid():
    images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    assert sample_grid(images, rows=8, columns=3, side=8).shape == (2 * 11 + 3, 3 * 11 + 3, 3)
    assert (sample_grid(images, rows=8, columns=3, side=8)[-5:, -5:] == 255).all()


def test_large_images_are_shrunk_by_area():
    images = np.zeros((1, 100, 100, 1), dtype=np.uint8)
    images[:, ::2] = 200
    tile = sample_grid(images, 1, 1, side=50)[3:-3, 3:-3]
    assert tile.shape == (50, 50, 3)
    assert (tile == 100).all()


def test_contact_sheet_wraps_at_its_width():
    digits = (load_digits().images * 15.9).astype(np.uint8)[..., None]
    sheets = {count: contact_sheet({f"model {i}": digits for i in range(count)}, width=1000) for count in (1, 3, 4, 9)}
    assert all(sheet.shape[1] <= 1000 for sheet in sheets.values())
    assert sheets[4].shape[0] > sheets[3].shape[0] > 0
    assert sheets[9].shape[1] > 2 * sheets[1].shape[1]


def test_png_holds_the_picture_and_its_text():
    picture = sample_grid(np.random.default_rng(0).integers(0, 256, size=(3, 4, 4, 1), dtype=np.uint8), side=4)
    back = Image.open(io.BytesIO(to_png(picture, {"model": "vae – β"})))
    np.testing.assert_array_equal(np.asarray(back), picture)
    assert back.text["model"] == "vae – β"
    assert to_png(picture) == to_png(picture)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 3, 1)),
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((2, 3, 3, 4), np.uint8),
        np.zeros((0, 3, 3, 1), np.uint8),
    ],
)
def test_anything_but_uint8_nhwc_is_refused(images):
    with pytest.raises(BenchError, match="uint8 images"):
        sample_grid(images)


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(BenchError, match="at least one model"):
        contact_sheet({})
