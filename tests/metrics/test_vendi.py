import math

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.vendi import ORDERS, Vendi, vendi_score, vendi_score_from_kernel, vendi_scores
from bench.space import ImageSpace


def legacy_normal(n, d, seed=0):
    return np.random.RandomState(seed).randn(n, d)


@pytest.mark.parametrize("q", [0.1, 0.5, 1, 2, 7, math.inf])
def test_kernels_with_known_scores(q):
    three_clusters = np.kron(np.eye(3), np.ones((4, 4)))
    for matrix, expected in ((np.eye(7), 7), (np.ones((7, 7)), 1), (three_clusters, 3)):
        assert float(vendi_score_from_kernel(matrix, q)) == pytest.approx(expected, rel=1e-12)


def test_weighted_scores_are_hill_numbers():
    assert float(vendi_score_from_kernel(np.eye(3), 1, [0.5, 0.25, 0.25])) == pytest.approx(2**1.5, rel=1e-12)
    assert float(vendi_score_from_kernel(np.eye(3), 2, [0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375, rel=1e-12)
    assert float(vendi_score_from_kernel(np.eye(3), math.inf, [2, 1, 1])) == pytest.approx(2, rel=1e-12)
    assert float(vendi_score(np.eye(3), 1, weights=np.array([0.5, 0.25, 0.25]))) == pytest.approx(2**1.5, rel=1e-12)


def test_weights_mean_repetition():
    x = legacy_normal(200, 10)
    counts = np.random.default_rng(0).integers(0, 4, 200)
    repeated = np.repeat(x, counts, axis=0)
    for q in (0.5, 1, 2):
        assert float(vendi_score(x, q, weights=counts)) == pytest.approx(float(vendi_score(repeated, q)), rel=1e-9)


def test_golden_value():
    assert float(vendi_score(legacy_normal(500, 64) @ golden_mixing())) == pytest.approx(37.8421285143, rel=1e-11)


def golden_mixing():
    state = np.random.RandomState(0)
    state.randn(500, 64)
    state.randn(400, 64)
    return state.randn(64, 64) / 8


@pytest.mark.peer
def test_equals_vendi_score():
    vendi = pytest.importorskip("vendi_score.vendi")
    x = np.random.default_rng(1).normal(size=(150, 40)) + 0.5
    assert float(vendi_score(x)) == pytest.approx(vendi.score_X(x), rel=1e-10)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for q, theirs in ((0.5, 0.5), (2, 2), (math.inf, "inf")):
        assert float(vendi_score(x, q)) == pytest.approx(vendi.score_dual(x, q=theirs), rel=1e-10)
        assert float(vendi_score_from_kernel(unit @ unit.T, q)) == pytest.approx(vendi.score_K(unit @ unit.T, q=theirs))


@pytest.mark.parametrize("q", ORDERS)
def test_both_duals_agree_and_nothing_else_matters(q):
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(90, 30)) * np.arange(1, 31) ** -1.0).astype(np.float32)
    value = float(vendi_score(x, q))
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    assert float(vendi_score_from_kernel(unit @ unit.T, q)) == pytest.approx(value, rel=1e-9)
    assert float(vendi_score(x[rng.permutation(90)], q)) == pytest.approx(value, rel=1e-10)
    assert float(vendi_score(x * rng.uniform(1, 9, (90, 1)), q)) == pytest.approx(value, rel=1e-5)
    assert float(vendi_score(np.repeat(x, 3, axis=0), q)) == pytest.approx(value, rel=1e-9)
    assert float(vendi_score(torch.from_numpy(x), q)) == value


def test_wide_features_use_the_small_side():
    x = np.random.default_rng(3).normal(size=(60, 5000))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert float(vendi_score(x)) == pytest.approx(float(vendi_score_from_kernel(unit @ unit.T)), rel=1e-10)


def test_second_order_without_eigenvalues():
    x = np.random.default_rng(4).normal(size=(120, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert float(vendi_score(x, 2)) == pytest.approx(1 / np.linalg.norm(unit @ unit.T / 120) ** 2, rel=1e-12)


def test_orders_fall_and_fewer_modes_score_lower():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(10, 50)) * 5

    def score(modes):
        x = centres[rng.integers(0, modes, 400)] + 0.1 * rng.normal(size=(400, 50))
        return [float(m) for m in vendi_scores(x).values()]

    rows = [score(modes) for modes in (1, 3, 6, 10)]
    for row in rows:
        assert row == sorted(row, reverse=True)
    for order in range(len(ORDERS)):
        assert [row[order] for row in rows] == sorted(row[order] for row in rows)


def test_zero_vectors_are_one_kind_of_their_own():
    x = np.vstack([np.eye(3), np.eye(3), np.zeros((2, 3))])
    for array in (x, np.hstack([x, np.zeros((8, 20))])):
        assert float(vendi_score(array)) == pytest.approx(4, rel=1e-12)


def test_extreme_scales_are_safe():
    x = np.random.default_rng(6).normal(size=(100, 5))
    for scale in (1e-200, 1e200):
        assert float(vendi_score(x * scale)) == pytest.approx(float(vendi_score(x)), rel=1e-12)


def test_other_kernels():
    x = np.random.default_rng(7).normal(size=(80, 4))

    def gaussian(features):
        return np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(2))

    measured = vendi_score(x, kernel=gaussian)
    assert float(measured) == pytest.approx(float(vendi_score_from_kernel(gaussian(x))), rel=1e-12)
    assert float(vendi_score(np.zeros((80, 4)), kernel=gaussian)) == pytest.approx(1)


def test_kernel_matrices_may_be_rounded_and_may_be_tensors():
    x = np.random.default_rng(11).normal(size=(300, 8))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    due = float(vendi_score(x, q=2))
    rows = unit.astype(np.float32)
    assert float(vendi_score_from_kernel(rows @ rows.T, q=2)) == pytest.approx(due, rel=1e-5)
    half = (unit @ unit.T).astype(np.float16)
    np.fill_diagonal(half, 1)
    assert float(vendi_score_from_kernel(half, q=2)) == pytest.approx(due, rel=1e-2)
    tensor = torch.from_numpy(unit @ unit.T).requires_grad_()
    assert float(vendi_score_from_kernel(tensor, q=2)) == pytest.approx(due, rel=1e-9)


def test_the_interval_is_for_the_distribution_and_covers():
    rng = np.random.default_rng(8)
    scale = np.arange(1, 17) ** -0.6

    def draw(n):
        return (rng.exponential(size=(n, 16)) - 1) * scale + 0.5

    truth = {q: float(m) for q, m in vendi_scores(draw(200_000)).items()}
    scores = [vendi_scores(draw(200)) for _ in range(150)]
    for q in ORDERS:
        held = [s[q].low <= truth[q] <= s[q].high for s in scores if s[q].low is not None]
        assert len(held) > 100
        assert 0.88 <= np.mean(held) <= 1
    below = np.mean([float(s[1.0]) < truth[1.0] for s in scores])
    assert below > 0.7  # the plain value is biased downwards, which is why the interval is corrected


def test_no_interval_where_none_can_be_given():
    few = vendi_score(np.random.default_rng(9).normal(size=(40, 3)))
    assert (few.low, "below 50" in few.note) == (None, True)
    wide = vendi_score(np.random.default_rng(9).normal(size=(100, 400)))
    assert (wide.low, "bias" in wide.note) == (None, True)
    assert vendi_score(np.ones((100, 3))).low is None


def test_wrong_input_is_said():
    x = np.ones((5, 2))
    for call, words in (
        (lambda: vendi_score(np.ones(5)), "features"),
        (lambda: vendi_score(x * np.nan), "NaN"),
        (lambda: vendi_score(x, q=0), "positive"),
        (lambda: vendi_score(x, weights=np.ones(4)), "5 non-negative"),
        (lambda: vendi_score_from_kernel(2 * np.eye(3)), "ones on its diagonal"),
        (lambda: vendi_score(np.ones((3, 0))), "d > 0"),
        (lambda: vendi_score(x, q=None), "positive"),  # type: ignore[arg-type]
        (lambda: vendi_score(x, kernel="rbf"), "'cosine' or a function"),  # type: ignore[arg-type]
        (lambda: vendi_score(x, weights=np.array([1, np.inf, 2, 1, 1])), "5 non-negative finite"),
        (lambda: vendi_score(x, kernel=lambda rows: np.eye(4)), r"must be \(5, 5\)"),
        (lambda: vendi_score(x, kernel=lambda rows: np.eye(5) + np.eye(5, k=1) / 2), "symmetric"),
        (lambda: vendi_score_from_kernel(np.eye(3) + 1e-3 * np.eye(3, k=1)), "symmetric"),
        (lambda: vendi_score_from_kernel(np.ones((3, 4))), "square"),
        (lambda: vendi_score_from_kernel(np.full((2, 2), np.nan)), "finite"),
        (lambda: vendi_score_from_kernel(np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])), "semi-definite"),
        (lambda: vendi_score_from_kernel(np.array([[1.0, 2.0], [2.0, 1.0]])), "semi-definite"),
    ):
        with pytest.raises(BenchError, match=words):
            call()


def test_the_metric_measures_the_widest_layer():
    images = np.zeros((60, 8, 8, 1), np.uint8)
    features = {"mid": np.ones((60, 4)), "final": np.random.default_rng(10).normal(size=(60, 9))}
    evidence = Evidence(
        data=Data("d", ImageSpace(1, 8, 8), images, images),
        samples=images,
        features=lambda split, layer: features[layer],
        extractor="net",
        layers={"mid": 4, "final": 9, "logits": 1000},
    )
    found = Vendi().measure(evidence)
    assert [m.name for m in found] == ["vendi_q0.1_net", "vendi_net", "vendi_q2_net", "vendi_qinf_net"]
    assert float(found[1]) == float(vendi_score(features["final"]))
    assert {m.n for m in found} == {60}


@pytest.mark.parametrize("seed", range(5))
def test_order_inf_has_an_interval_only_where_the_largest_eigenvalue_stands_clear(seed):
    """Of equal eigenvalues the largest sample one is biased by n^-1/2, which no jackknife removes."""
    rng = np.random.default_rng(seed)
    equal = rng.normal(size=(500, 8))
    assert "too close" in vendi_score(equal, float("inf")).note
    assert vendi_score(equal + 2.0, float("inf")).low is not None
