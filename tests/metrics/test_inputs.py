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
from bench.metrics.likelihood import bits_per_dim, compression_vs_png, kl_from_truth
from bench.metrics.moments import Moments
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
        np.empty((80, 0)),
        np.zeros((80, 4, 1)),
        [[1.0, 2.0, 3.0, 4.0], [1.0]],
        torch.eye(80, 4).to_sparse(),
        torch.empty(80, 4, device="meta"),
        [torch.ones(4, requires_grad=True)] * 80,
    ],
    ids=[
        "nothing",
        "complex",
        "NaN",
        "text",
        "empty",
        "no columns",
        "three axes",
        "ragged",
        "sparse",
        "meta",
        "gradients",
    ],
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
        lambda real, fake: metrics.vendi_score(real, q=None),
        lambda real, fake: metrics.vendi_score(real, kernel="rbf"),
        lambda real, fake: metrics.kernel_distance_subsets(real, fake, 2.0, 50),
        lambda real, fake: metrics.kernel_distance_subsets(real, fake, 2, 50.5),
        lambda real, fake: metrics.kernel_distance_subsets(real, fake, 2, 50, seed=-1),
        lambda real, fake: metrics.inception_score(real, splits=2, seed=2**32),
        lambda real, fake: metrics.sliced_wasserstein(real, fake, seed=-1),
        lambda real, fake: metrics.ndb(real, fake, bins=5, seed=-1),
        lambda real, fake: metrics.collapse_verdict(real, fake, seed=-1),
        lambda real, fake: metrics.data_copying(real, real, fake, seed=-1),
        lambda real, fake: metrics.data_copying(real, real, fake, seed=0.5),
        lambda real, fake: metrics.lpips_diversity(IMAGES, lambda a, b: a.flatten(1).float().mean(1), seed=-1),
        lambda real, fake: lpips_diversity_by_class(IMAGES, LABELS, lambda a, b: a.flatten(1).float().mean(1), seed=-1),
        lambda real, fake: metrics.ms_ssim_diversity(IMAGES, pairs=1.5),
        lambda real, fake: metrics.ms_ssim_diversity(IMAGES, LABELS, pairs=1.5),
        lambda real, fake: metrics.ms_ssim_diversity(IMAGES, LABELS, pairs=-3),
        lambda real, fake: metrics.denoising_gain(IMAGES, IMAGES, IMAGES, level="0.1"),
    ],
)
def test_an_option_of_the_wrong_kind_is_one_sentence(call: Pair, sets: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(BenchError):
        call(*sets)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_features_of_no_dimension_are_refused(name: str) -> None:
    with pytest.raises(BenchError, match=r"d >= 1|d > 0"):
        FUNCTIONS[name](np.zeros((80, 0)), np.zeros((70, 0)))


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"vendi_score"}))  # which scales rows before all else
def test_numbers_whose_powers_overflow_are_refused(name: str, sets: tuple[np.ndarray, np.ndarray]) -> None:
    sets[0][7, 2] = -1.1e40
    with pytest.raises(BenchError, match="must not exceed 1e\\+40 in size, but row 7 does"):
        FUNCTIONS[name](*sets)


def test_moments_refuse_what_is_no_batch_of_features() -> None:
    moments = Moments(2)
    for wrong in (np.ones((3, 2)) + 1j, np.full((3, 2), "1"), np.full((3, 2), -1e101), torch.eye(2).to_sparse()):
        with pytest.raises(BenchError):
            moments.update(wrong)
    assert moments.update(np.zeros((0, 2))).n == 0


def test_path_length_refuses_a_misspelt_choice() -> None:
    def noise(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, 3, generator=generator)

    for odd in ({"n": 2.5}, {"n": "4"}, {"seed": -1}, {"epsilon": "1"}, {"discard": None}):
        with pytest.raises(BenchError):
            metrics.perceptual_path_length(lambda z: z, noise, **{"n": 4, **odd})
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
        lambda labels: condition_consistency(IMAGES, LABELS, lambda images: labels),
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


@pytest.mark.parametrize(
    "wrong", [np.ones((40, 3)), np.full(40, "1"), np.ones(40) + 1j, torch.ones(40).to_sparse(), [[1.0], [1.0, 2.0]]]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda values: bits_per_dim(values, 64, "exact"),
        lambda values: kl_from_truth(values, np.ones(40), "exact"),
        lambda values: kl_from_truth(np.ones(40), values, "exact"),
        lambda values: compression_vs_png(values, np.ones(40), "exact"),
        lambda values: metrics.anomaly_auroc(values, np.ones(40)),
        lambda values: metrics.anomaly_auroc(np.ones(40), values),
        lambda values: metrics.vendi_score(FEATURES, weights=values),
    ],
)
def test_what_is_no_vector_of_numbers_is_refused(call, wrong):
    call(np.arange(1.0, 41))
    with pytest.raises(BenchError):
        call(wrong)


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
