"""What every public metric function accepts and refuses: the same number from arrays, tensors and lists, one sentence else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench import metrics
from bench.errors import BenchError
from bench.metrics.classes import condition_consistency, intra_class_fd
from bench.metrics.likelihood import compression_vs_png, kl_from_truth
from bench.metrics.perceptual import lpips_diversity_by_class, ms_ssim_diversity

Pair = Callable[[Any, Any], Any]
FUNCTIONS: dict[str, Pair] = {
    "frechet_distance": metrics.frechet_distance,
    "fid_infinity": metrics.fid_infinity,
    "kernel_distance": metrics.kernel_distance,
    "prdc": lambda real, fake: metrics.prdc(real, fake, k=3).coverage,
    "inception_score": lambda real, fake: metrics.inception_score(real, splits=2),
    "vendi_score": lambda real, fake: metrics.vendi_score(real),
    "ndb": lambda real, fake: metrics.ndb(real, fake, bins=5)[1],
    "authpct": metrics.authpct,
    "data_copying": lambda real, fake: metrics.data_copying(real, real, fake),
    "mifid_distance": metrics.mifid_distance,
    "collapse_verdict": metrics.collapse_verdict,
    "clipped_density": metrics.clipped_density,
    "sliced_wasserstein": lambda real, fake: metrics.sliced_wasserstein(real, fake, directions=5),
}


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    """Features that bfloat16 holds exactly, so that every way to give them is the same."""
    rng = np.random.default_rng()
    whole = rng.integers(-40, 41, size=(2, 80, 4)).astype(np.float64)
    return whole[0], whole[1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_tensors_lists_and_frames_give_one_number(name: str, sets: tuple[np.ndarray, np.ndarray]) -> None:
    expected = FUNCTIONS[name](*sets)
    for as_given in (
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: torch.from_numpy(x).bfloat16(),
        lambda x: x.astype(np.int64),
        lambda x: x.tolist(),
        pd.DataFrame,
    ):
        assert FUNCTIONS[name](*map(as_given, sets)) == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        np.zeros((80, 4)) + 1j,
        np.full((80, 4), np.nan),
        np.array([["a"] * 4] * 80),
        np.empty((0, 4)),
        np.zeros((80, 4, 1)),
        [[1.0, 2.0, 3.0, 4.0], [1.0]],
    ],
    ids=["nothing", "complex", "NaN", "text", "empty", "three axes", "ragged"],
)
def test_what_is_no_feature_matrix_is_refused(name: str, wrong: Any, sets: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(BenchError):
        FUNCTIONS[name](wrong, sets[1])


def test_the_row_that_is_not_finite_is_named(sets: tuple[np.ndarray, np.ndarray]) -> None:
    sets[1][7, 2] = np.inf
    for function in (metrics.authpct, metrics.kernel_distance):
        with pytest.raises(BenchError, match="row 7"):
            function(*sets)


@pytest.mark.parametrize(
    "call",
    [
        lambda real, fake: metrics.prdc(real, fake, k=2.5),
        lambda real, fake: metrics.prdc(real, fake, k="3"),
        lambda real, fake: metrics.inception_score(real, splits=2.5),
        lambda real, fake: metrics.inception_score(real, splits=2, seed=-1),
        lambda real, fake: metrics.fid_infinity(real, fake, seed=1.5),
        lambda real, fake: metrics.ndb(real, fake, bins=5.0),
        lambda real, fake: metrics.data_copying(real, real, fake, cells=0),
        lambda real, fake: metrics.clipped_density(real, fake, k=True),
        lambda real, fake: metrics.vendi_score(real, q="x"),
    ],
)
def test_an_option_of_the_wrong_kind_is_one_sentence(call: Pair, sets: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(BenchError):
        call(*sets)


def test_path_length_refuses_a_misspelt_choice() -> None:
    def noise(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, 3, generator=generator)

    for wrong in ({"interpolation": "slrep"}, {"sampling": "ful"}):
        with pytest.raises(BenchError, match="must be one of"):
            metrics.perceptual_path_length(lambda z: z, noise, n=4, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "images", [np.zeros((4, 16, 16, 3)), np.zeros((4, 3, 16, 16), np.uint8), torch.zeros(4, 3, 16, 16), [1, 2]]
)
def test_diversity_of_what_are_no_uint8_images_is_refused(images: Any) -> None:
    with pytest.raises(BenchError, match="uint8"):
        metrics.lpips_diversity(images, lambda a, b: (a - b).flatten(1).abs().mean(1))
    with pytest.raises(BenchError, match="uint8"):
        metrics.ms_ssim_diversity(images)


LABELS = np.arange(40) % 2
FEATURES = np.random.default_rng(0).normal(size=(40, 3))
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)


@pytest.mark.parametrize("wrong", [lambda x: x[:, None], lambda x: x[:-1], lambda x: np.append(x, x)])
@pytest.mark.parametrize(
    "call",
    [
        lambda labels: intra_class_fd(FEATURES, LABELS, FEATURES, labels),
        lambda labels: condition_consistency(IMAGES, labels, lambda images: LABELS),
        lambda labels: ms_ssim_diversity(IMAGES, labels),
        lambda labels: lpips_diversity_by_class(IMAGES, labels, lambda a, b: a.flatten(1).float().mean(1)),
        lambda labels: kl_from_truth(np.ones(40), labels, "exact"),
        lambda labels: compression_vs_png(np.ones(40), labels, "exact"),
    ],
)
def test_one_value_for_each_example(call, wrong):
    """A column would be compared with every example, and n would be its square."""
    call(LABELS)
    with pytest.raises(BenchError, match="must be one for each of the 40 examples"):
        call(wrong(LABELS))


TOOLS = {
    "lerp", "slerp", "slerp_unit", "Moments", "FrechetAccumulator", "InceptionScoreAccumulator", "png_pixel_bits", "mifid",
}  # fmt: skip
"""They measure nothing themselves, or, as ``mifid``, take measurements."""

LIKE = {"vendi_score_from_kernel": "vendi_score"}
"""Described as the other one, to which its docstring points."""


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_public_metric_says_what_it_takes_and_which_way_is_better(name):
    """Shapes, direction and errors stand in its docstring."""
    said = getattr(metrics, name).__doc__
    if name in LIKE:
        assert f"``{LIKE[name]}``" in said
        said += getattr(metrics, LIKE[name]).__doc__
    assert re.search(r"higher|lower|ideal|best|\b1 perfect|better|smoother|worse", said, re.IGNORECASE) or name in TOOLS
    if name != "mifid":  # of two measurements
        assert re.search(r"``\([A-Za-z]", said), "a shape"
        assert "BenchError" in said or name in ("lerp", "slerp", "slerp_unit")
