"""No metric depends on the order of rows, on the number of threads (both beyond 1e-10), or on blocks of rows: value, low and high."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench import metrics, registry
from bench.metrics import inception_score, kernel_distance_subsets
from bench.metrics.order import order_of, sampled, shuffled
from bench.metrics.vendi import vendi_score_from_kernel
from tests.metrics.sets import FUNCTIONS, NO_ROWS_OR_PLACES, evidence, numbers, reordered, smooth, tied

SEED = int(np.random.randint(2**31))
KINDS = {"captions": "captions", "modes": "points", "stacked-modes": "stacked-mnist"}
"""The evidence that a registered metric is tried on, where it is not the one of labelled images."""

BLOCKS = {
    "feature_likelihood": {"ROWS": 13},
    "frechet_interval": {"ROWS": 17},
    "kernel": {"ROWS": 19},
    "latent": {},
    "manifold": {"BLOCK_BYTES": 4 * 16 * 220, "PAIRS": 7},
    "order": {"BLOCK_BYTES": 8 * 8 * 23},
    "perceptual": {"BATCH": 3},
    "products": {"COLUMNS": 7},
    "sliced": {"CHUNK": 7, "ROWS": 31},
    "moments": {"BUFFER_ROWS": 37},
    "vendi": {"ROWS": 13},
}
"""Every module's block size, made small."""


def same(found, due):
    assert len(found) == len(due) > 0
    assert np.isfinite(due).any()
    assert found == pytest.approx(due, rel=1e-10, abs=1e-12, nan_ok=True)


def registered(name, order=None):
    metric = registry.load(registry.find("metric", name).target)()
    return metric.measure(evidence(SEED, KINDS.get(name, "images"), order))


def test_every_public_function_is_tried():
    assert set(FUNCTIONS) | set(NO_ROWS_OR_PLACES) == set(metrics.__all__)
    assert not set(FUNCTIONS) & set(NO_ROWS_OR_PLACES)


@pytest.mark.parametrize("sets", [smooth, tied])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_row_order_does_not_matter(name, sets):
    given = sets(SEED)
    same(numbers(FUNCTIONS[name](reordered(given))), numbers(FUNCTIONS[name](given)))


@pytest.mark.parametrize("name", sorted(registry.entries("metric")))
def test_row_order_does_not_matter_in_suites(name):
    once, again = registered(name), registered(name, order=6)
    assert [m.name for m in once] == [m.name for m in again]
    same(numbers(again), numbers(once))


def in_threads(threads, measure):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        return numbers(measure())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_threads_do_not_matter(name):
    given = tied(SEED)
    same(in_threads(2, lambda: FUNCTIONS[name](given)), in_threads(1, lambda: FUNCTIONS[name](given)))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_blocks_of_rows_do_not_matter(name, monkeypatch):
    given = smooth(SEED)
    whole = numbers(FUNCTIONS[name](given))
    for module, sizes in BLOCKS.items():
        for constant, size in sizes.items():
            monkeypatch.setattr(importlib.import_module(f"bench.metrics.{module}"), constant, size)
    same(numbers(FUNCTIONS[name](given)), whole)


def test_a_kernel_matrix_may_be_reordered():
    x = smooth(SEED)["fake"]["features"]
    matrix = np.exp(-((x[:, None] - x) ** 2).sum(2))
    order = np.random.default_rng(SEED).permutation(len(x))
    same(numbers(vendi_score_from_kernel(matrix[order][:, order])), numbers(vendi_score_from_kernel(matrix)))


def test_published_protocols_hang_on_the_order():
    """By definition: they are offered for comparison with numbers of the papers, and are not the default."""
    sets, other = smooth(SEED), reordered(smooth(SEED))
    logits, moved = (each["fake"]["logits"] for each in (sets, other))
    assert float(inception_score(logits, 10, seed=2020)) != float(inception_score(moved, 10, seed=2020))
    subsets = [
        float(kernel_distance_subsets(s["real"]["features"], s["fake"]["features"], 3, 50).mean) for s in (sets, other)
    ]
    assert subsets[0] != subsets[1]


@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 4, 4, 3)])
def test_an_order_is_of_content_and_seed(shape):
    rng = np.random.default_rng(SEED)
    rows = rng.integers(0, 255, shape).astype(np.uint8) if len(shape) == 4 else rng.normal(size=shape)
    moved = rng.permutation(rows)
    assert np.array_equal(shuffled(rows), shuffled(moved))
    assert np.array_equal(sampled(rows, 9, 3), sampled(moved, 9, 3))
    assert not np.array_equal(order_of(rows, seed=1), order_of(rows, seed=2))
    assert sorted(order_of(rows)) == list(range(40))
    assert np.array_equal(order_of(rows), order_of(rows.astype(np.float64))), "the type of numbers does not matter"


def test_an_order_outlives_rounding_scales_and_constant_columns():
    rng = np.random.default_rng(SEED)
    rows = np.c_[rng.normal(size=(200, 5)), np.ones(200), 1e150 * rng.normal(size=200)]
    assert np.array_equal(order_of(rows), order_of(rows * (1 + 1e-15 * rng.normal(size=rows.shape))))
    assert np.array_equal(order_of(rows), order_of(rows * [2, 2, 2, 2, 2, 2, 0.5**400] + [0, 0, 0, 0, 0, 1e3, 0]))


@pytest.mark.parametrize("d", [1, 2, 30])
def test_places_are_random_for_the_smallest_and_the_largest_too(d):
    """Over many sets, what stands in each tenth of the order is on average the same: no place is for large values."""
    rng = np.random.default_rng(SEED)
    sets = rng.normal(size=(400, 100, d))
    tenths = np.array([[rows[order_of(rows)[k::10], 0].mean() for k in range(10)] for rows in sets])
    assert np.abs(tenths.mean(0)).max() < 4.5 / np.sqrt(400 * 10)


def test_pairs_stay_together_and_places_are_random():
    rng = np.random.default_rng(SEED)
    twins, labels = np.repeat(rng.normal(size=(50, 2)), 2, axis=0), np.tile([0, 1], 50)
    order = rng.permutation(100)
    first, second = order_of(twins, labels), order_of(twins[order], labels[order])
    assert np.array_equal(labels[first], labels[order][second])
    assert np.array_equal(twins[first], twins[order][second])
    kinds = np.sort(rng.integers(0, 2, 2000))  # rows sorted by class: halves of the new order hold both alike
    halves = np.split(kinds[order_of(kinds + 1e-3 * rng.normal(size=2000))], 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 0.11  # five standard deviations


def test_sets_may_be_empty():
    assert len(shuffled(np.zeros((0, 4)))) == 0
    assert len(order_of(np.zeros((3, 0)))) == 3


OTHER_PROCESSOR = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""There products in float32 differ in their last digits by place and by number of threads, where they do not with AVX-512."""

TWICE = """
import numpy as np, torch
from bench.metrics import cmmd, kernel_distance
rng = np.random.default_rng({seed})
x, y = (rng.normal(size=(n, 70)).astype(np.float32) for n in (1300, 1100))
for threads, sets in ((1, (x, y)), (2, (rng.permutation(x), rng.permutation(y)))):
    torch.set_num_threads(threads)
    found = [kernel_distance(*sets), cmmd(*sets, unbiased=True)]
    print(*(f"{{float(end):.17g}}" for m in found for end in (m, m.low, m.high)), torch.get_num_threads())
"""


def test_float32_products_depend_neither_on_places_nor_on_threads():
    ran = subprocess.run(
        [sys.executable, "-c", TWICE.format(seed=SEED)],
        env={**os.environ, **OTHER_PROCESSOR},
        capture_output=True,
        text=True,
        check=True,
    )
    once, again = ([float(each) for each in line.split()] for line in ran.stdout.splitlines())
    assert (once.pop(), again.pop()) == (1, 2)
    same(again, once)
