"""No metric hangs on torch's default device: whatever a script has set, arrays are computed with where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench import metrics
from bench.features.extract import extract
from bench.features.module import ModuleExtractor
from tests.metrics.sets import FUNCTIONS, NO_ROWS_OR_PLACES, decode, numbers, smooth

SEED = int(np.random.randint(2**31))


def noise(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(count, 4, generator=generator, device="cpu")  # where the generator is


def subsets(sets: Any) -> list[float]:
    found = metrics.kernel_distance_subsets(sets["real"]["features"], sets["fake"]["features"], 3, 50)
    return [float(found.mean), found.std]


def points_of(path: Callable[..., torch.Tensor]) -> list[float]:
    rng = np.random.default_rng(SEED)
    ends = (torch.from_numpy(rng.normal(size=(5, 4))) for _ in range(2))
    return [float(value) for value in path(*ends, torch.from_numpy(rng.random((5, 1)))).flatten()]


OTHERS: dict[str, Callable[[Any], Any]] = {
    "frechet_distance_from_stats": lambda sets: metrics.frechet_distance_from_stats(
        np.zeros(3), np.eye(3), np.ones(3), 2 * np.eye(3)
    ),
    "perceptual_path_length": lambda sets: [
        metrics.perceptual_path_length(decode, noise, n=40, sampling="full"),
        metrics.perceptual_path_length(decode, noise, n=40, sampling="end", mapping=torch.tanh),
    ],
    "kernel_distance_subsets": subsets,
    **{name: lambda sets, name=name: points_of(getattr(metrics, name)) for name in ("lerp", "slerp", "slerp_unit")},
}
"""The functions that have no rows, or hang on their order."""


def values(found: Any) -> list[float]:
    return found if isinstance(found, list) and isinstance(found[0], float) else numbers(found)


def test_every_public_function_is_tried() -> None:
    assert set(OTHERS) == set(NO_ROWS_OR_PLACES)
    assert set(FUNCTIONS) | set(OTHERS) == set(metrics.__all__)


@pytest.mark.parametrize("name", sorted(metrics.__all__))
def test_the_default_device_does_not_matter(name: str) -> None:
    """A tensor of the device meta holds no values, so that one made there without being asked for cannot go unnoticed."""
    function, sets = {**FUNCTIONS, **OTHERS}[name], smooth(SEED)
    due = values(function(sets))
    with torch.device("meta"):
        found = values(function(sets))
    assert np.isfinite(due).any()
    assert found == pytest.approx(due, rel=1e-12, abs=1e-14, nan_ok=True)


def test_a_module_is_an_extractor_where_it_lies() -> None:
    images = np.random.default_rng(SEED).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    due = extract(images, ModuleExtractor(module, 16))["features"]
    with torch.device("meta"):
        found = extract(images, ModuleExtractor(module, 16))["features"]
    assert np.array_equal(found, due)
