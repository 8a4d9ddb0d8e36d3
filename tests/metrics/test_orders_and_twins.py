"""Rows sorted by class or class after class in turn, exact twins, and sets too small: none of them may change what a metric says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.metrics import cmmd, data_copying, fld, frechet_distance, frechet_distance_from_stats, vendi_score
from bench.metrics.collapse import collapse_verdict
from bench.metrics.frechet_pairs import frechet_distance_of_pairs
from bench.metrics.memorisation import near_copies
from bench.metrics.sliced import sliced_wasserstein
from bench.stats.compare import compare_exact

CLASSES, D = 10, 8


def in_turn(rng: np.random.Generator, n: int, centres: np.ndarray) -> np.ndarray:
    """Row i is of class i modulo 10."""
    return centres[np.arange(n) % CLASSES] + 0.3 * rng.normal(size=(n, D))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(np.random.randint(2**31))


@pytest.fixture
def centres(rng: np.random.Generator) -> np.ndarray:
    return 3 * rng.normal(size=(CLASSES, D))


def test_classes_in_turn_do_not_split_the_baseline_of_fld(rng, centres):
    train, test, fake = (in_turn(rng, n, centres) for n in (600, 200, 200))
    found = fld(train, test, fake)
    mixed = fld(rng.permutation(train), test, fake)
    assert float(found) == pytest.approx(float(mixed), abs=6)
    assert found.high - found.low < 4 * (mixed.high - mixed.low)


@pytest.mark.parametrize("order", [np.sort, lambda labels: labels])
def test_the_interval_of_vendi_is_as_wide_for_sorted_rows(rng, centres, order):
    labels = order(rng.integers(0, CLASSES, 300))
    rows = centres[labels] + 0.3 * rng.normal(size=(300, D))
    width, mixed = (m.high - m.low for m in (vendi_score(rows, 2.0), vendi_score(rng.permutation(rows), 2.0)))
    assert 0.3 < width / mixed < 3


def test_blocks_of_the_other_jackknives_mix_the_classes(rng, centres):
    real, fake = in_turn(rng, 200, centres), 2 + in_turn(rng, 200, centres)
    found = sliced_wasserstein(real, fake, 50)
    mixed = sliced_wasserstein(rng.permutation(real), rng.permutation(fake), 50)
    assert 0.3 < (found.high - found.low) / (mixed.high - mixed.low) < 3
    pairs = frechet_distance_of_pairs(real, real + 0.1 * rng.normal(size=real.shape))
    assert pairs.low <= pairs <= pairs.high


def test_a_few_twins_do_not_hide_copies_nor_repetitions(rng):
    data = rng.normal(size=(500, D))
    twins = np.concatenate([data, data[:12]])
    copies = data[:200] + 1e-4 * rng.normal(size=(200, D))
    assert float(near_copies(data, rng.normal(size=(200, D)), copies)) > 0.9
    assert float(near_copies(twins, rng.normal(size=(200, D)), copies)) > 0.9
    few = np.repeat(data[:100], 5, axis=0) + 1e-4 * rng.normal(size=(500, D))
    assert collapse_verdict(data, few) == 1
    assert collapse_verdict(twins, few) == 1


def test_one_test_example_in_a_cell_does_not_cost_the_interval(rng):
    far = 50 * np.eye(3, D)
    train = np.concatenate([centre + rng.normal(size=(100, D)) for centre in far])
    test = np.concatenate([centre + rng.normal(size=(n, D)) for centre, n in zip(far, (100, 100, 1))])
    fake = np.concatenate([centre + rng.normal(size=(n, D)) for centre, n in zip(far, (100, 100, 30))])
    found = data_copying(train, test, fake)
    assert found.low is not None
    assert found.low < found < found.high


def test_too_few_rows_are_a_sentence_or_a_note(rng):
    rows = rng.normal(size=(20, D))
    for train, test in ((rows[:1], rows), (rows, rows[:1]), (rows, np.ones((5, D)))):
        with pytest.raises(BenchError, match="two training and two test examples that differ"):
            fld(train, test, rows)
    tiny = frechet_distance(rows[:2, :1], rows[2:4, :1])
    assert tiny.low is None
    assert "no interval" in tiny.note


def test_kinds_of_numbers_may_be_mixed(rng):
    a, b = rng.normal(size=(2, 30, D))
    due = float(cmmd(a, b))
    assert float(cmmd(a.astype(np.float32), b)) == pytest.approx(due, rel=1e-4)
    assert float(cmmd(torch.from_numpy(a).half(), b[::-1])) == pytest.approx(due, rel=1e-2)


def test_statistics_with_a_correlation_beyond_one_are_refused():
    with pytest.raises(BenchError, match="the first statistics: the covariance holds a correlation beyond 1"):
        frechet_distance_from_stats([0, 0], [[1, 2], [2, 1]], [0, 0], np.eye(2))
    assert float(frechet_distance_from_stats([0, 0], np.ones((2, 2)), [0, 0], np.ones((2, 2)))) == pytest.approx(
        0, abs=1e-9
    )


def test_the_same_infinity_is_the_same_number():
    assert compare_exact("kl", math.inf, math.inf, "lower").verdict == "equivalent"
    assert compare_exact("kl", 1.0, math.inf, "lower").verdict == "worse"
