"""Consistency models: the boundary condition, the growing number of levels, and two points learned from scratch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bench.model import BenchError, ImageSpace, SampleGenerator, VectorSpace
from bench.sampling import draw_batch
from reference_models.consistency import Consistency, level_weights


def test_at_the_smallest_sigma_the_function_is_the_identity() -> None:
    torch.manual_seed(0)
    model = Consistency(ImageSpace(1, 8, 8), width=8)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(model.consistency(x, torch.full((4,), 0.002)), x)
    assert not torch.allclose(model.consistency(x, torch.full((4,), 1.0)), x, atol=0.1)


def test_levels_double_and_keep_their_ends() -> None:
    model = Consistency(VectorSpace(2), levels=[10, 40])
    grids = [model.levels(progress) for progress in (0.0, 0.4, 0.9, 1.0)]
    assert [len(grid) - 1 for grid in grids] == [10, 20, 40, 40]
    for grid in grids:
        assert (grid.diff() > 0).all()
        torch.testing.assert_close(grid[[0, -1]], torch.tensor([0.002, 80.0]))
        assert float(level_weights(grid).sum()) == pytest.approx(1, abs=1e-5)


def test_the_network_is_told_neighbouring_levels_as_nearly_the_same() -> None:
    """In none of its sinusoids' angles may two neighbours of the finest grid differ by more than a small part of a turn."""
    model = Consistency(VectorSpace(2))
    told = model.told(model.levels(1.0))
    assert told[0] == 0
    assert float(told[-1]) == pytest.approx(model.config.time_scale)
    fastest = float(model.network.condition.time[0].frequencies.max())
    assert float(told.diff().min()) > 0
    assert fastest * float(told.diff().max()) < 0.5


@pytest.mark.parametrize("steps", [1, 2])
def test_learns_a_two_point_distribution(steps: int, train: Callable) -> None:
    torch.manual_seed(0)
    model = Consistency(VectorSpace(1), width=64, sigma_max=10.0, levels=[8, 32], steps=steps)
    train(model, torch.tensor([[-1.0], [1.0]]).repeat(50, 1), 500, batch_size=128)
    with torch.inference_mode():
        x = model.sample(512, SampleGenerator(0, 512))
    assert model.nfe == steps
    assert ((x.abs() - 1).abs() < 0.4).float().mean() > 0.7
    assert 0.3 < (x > 0).float().mean() < 0.7


def test_wrong_options() -> None:
    for wrong in ({"steps": 3}, {"levels": [20, 10]}, {"middle": 100.0}, {"learning_rate": 0.0}, {"time_scale": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            Consistency(VectorSpace(2), **wrong)


@pytest.mark.parametrize("levels", [(10, 100), (10, 15), (10, 160), (7, 7)])
def test_levels_end_at_the_last(levels: tuple[int, int]) -> None:
    model = Consistency(VectorSpace(2), levels=levels)
    counts = [len(model.levels(progress)) - 1 for progress in (0.0, 0.3, 0.6, 0.9999)]
    assert (counts[0], counts[-1]) == levels
    assert counts == sorted(counts)


def test_other_numbers_of_steps_and_data_without_spread_are_refused() -> None:
    model = Consistency(VectorSpace(2)).eval()
    with pytest.raises(BenchError, match="1 or 2 steps, got 4"):
        draw_batch(model, 2, 0, steps=4)
    with pytest.raises(BenchError, match="sigma_data"):
        Consistency(VectorSpace(2), sigma_data=0.0)
