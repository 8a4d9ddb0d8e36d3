"""Sample sets: uint8, clamped, rounded, checked."""

import numpy as np
import pytest
import torch

from bench.errors import TrialFailure
from bench.model import GenerativeModel, ImageSpace, VectorSpace
from bench.sampling import draw, to_array, to_model_range


class Painter(GenerativeModel):
    """Draws from its stream; may misbehave on purpose."""

    spaces = (ImageSpace, VectorSpace)

    def train_step(self, batch, progress):
        return {}

    def sample(self, n, generator, **options):
        return self.spoil(generator.randn(*self.space.shape))

    spoil = staticmethod(lambda x: x)


SPACE = ImageSpace(3, 4, 5)


def test_every_grey_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    tensor = to_model_range(levels, ImageSpace(1, 16, 16))
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(to_array(tensor, ImageSpace(1, 16, 16)), levels)


def test_out_of_range_is_clamped_and_layout_is_nhwc():
    x = torch.full((2, 3, 4, 5), 7.0)
    x[:, 1] = -7.0
    array = to_array(x, SPACE)
    assert array.shape == (2, 4, 5, 3)
    assert array.dtype == np.uint8
    assert (array[..., 0] == 255).all()
    assert (array[..., 1] == 0).all()


@pytest.mark.parametrize("batch", [1, 10, 16, 64])
def test_the_set_does_not_depend_on_the_batch_size(batch):
    whole, _ = draw(Painter(SPACE), 40, seed=3, batch_size=40)
    parts, laps = draw(Painter(SPACE), 40, seed=3, batch_size=batch)
    assert np.array_equal(whole, parts)
    assert len(laps) == max(0, 40 // batch - 1)


def test_vectors_stay_floats():
    samples, _ = draw(Painter(VectorSpace(2)), 10, 0, 4)
    assert samples.shape == (10, 2)
    assert samples.dtype == np.float32


def test_not_finite_is_divergence_and_a_wrong_shape_is_a_failure():
    model = Painter(SPACE)
    model.spoil = lambda x: x / 0
    with pytest.raises(TrialFailure, match="not finite") as caught:
        draw(model, 4, 0, 4)
    assert caught.value.status == "diverged"
    model.spoil = lambda x: x[:, :1]
    with pytest.raises(TrialFailure, match=r"returned shape \(4, 1, 4, 5\) where \(4, 3, 4, 5\) was due"):
        draw(model, 4, 0, 4)
