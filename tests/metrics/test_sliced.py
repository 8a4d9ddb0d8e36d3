import numpy as np
import pytest

from bench.errors import BenchError
from bench.metrics.sliced import _squared, sliced_wasserstein, sliced_wasserstein_gaussian


def golden_sets():
    state = np.random.RandomState(0)
    x, y = state.randn(500, 64), state.randn(400, 64) * 1.1 + 0.1
    mixing = state.randn(64, 64) / 8
    return x @ mixing, y @ mixing


def test_golden_value_of_the_approximation():
    assert float(sliced_wasserstein_gaussian(*golden_sets())) == pytest.approx(0.164953443738, abs=1e-11)


@pytest.mark.parametrize("sizes", [(40, 40), (40, 25), (7, 60), (30, 45)])
def test_one_dimension_is_the_optimal_coupling(sizes):
    rng = np.random.default_rng(sum(sizes))
    x, y = np.sort(rng.exponential(size=sizes[0])), np.sort(rng.normal(size=sizes[1]))
    repeated_x, repeated_y = (
        np.repeat(x, sizes[1]),
        np.repeat(y, sizes[0]),
    )  # equal sizes: the sorted coupling is optimal
    assert _squared(x[None], y[None])[0, 0] == pytest.approx(((repeated_x - repeated_y) ** 2).mean(), rel=1e-12)


def test_a_shift_in_one_dimension_is_itself():
    x = np.random.default_rng(0).normal(size=(300, 1))
    assert float(sliced_wasserstein(x, x + 2.5, directions=5)) == pytest.approx(2.5, rel=1e-12)
    assert float(sliced_wasserstein(x, x, directions=5)) == 0


def test_gaussians_have_their_closed_form():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1500, 4)), rng.normal(size=(1500, 4)) + np.array([3.0, 0, 0, 0])
    measured = sliced_wasserstein(x, y, directions=400)
    assert measured.low <= 1.5 <= measured.high  # |m| / sqrt(d)
    assert measured.high - measured.low < 0.3
    wide = sliced_wasserstein(x, 2 * rng.normal(size=(1500, 4)), directions=50)
    assert wide.low <= 1 <= wide.high


def test_the_interval_covers_where_the_value_is_biased():
    rng = np.random.default_rng(2)
    d, truth = 6, 0.5 / np.sqrt(6)
    drawn = []
    for seed in range(80):
        x, y = rng.normal(size=(150, d)), rng.normal(size=(120, d))
        y[:, 0] += 0.5
        drawn.append(sliced_wasserstein(x, y, directions=60, seed=seed))
    assert np.mean([float(m) > truth for m in drawn]) > 0.8
    assert 0.85 <= np.mean([m.low <= truth <= m.high for m in drawn]) <= 1


def test_equal_distributions_are_not_distinguished_and_few_samples_have_no_interval():
    rng = np.random.default_rng(3)
    same = sliced_wasserstein(rng.normal(size=(300, 5)), rng.normal(size=(200, 5)), directions=100)
    assert same.low == 0
    assert "indistinguishable" in same.note
    assert sliced_wasserstein(rng.normal(size=(49, 5)), rng.normal(size=(200, 5))).low is None


def test_seed_order_rotation_and_noise():
    x, y = golden_sets()
    rng = np.random.default_rng(4)
    value = float(sliced_wasserstein(x, y, 40))
    assert float(sliced_wasserstein(x, y, 40)) == value
    assert float(sliced_wasserstein(rng.permutation(x), rng.permutation(y), 40)) == pytest.approx(value, rel=1e-10)
    assert float(sliced_wasserstein(x + 7, y + 7, 40)) == pytest.approx(value, rel=1e-9)
    assert float(sliced_wasserstein(x, y, 40, seed=1)) != value
    noisy = [float(sliced_wasserstein(x, y + s * rng.normal(size=y.shape), 40)) for s in (0, 0.5, 1, 2)]
    assert noisy == sorted(noisy)
    with pytest.raises(BenchError, match="one d"):
        sliced_wasserstein(x, y[:, :3])


def test_one_direction_has_no_spread():
    x = np.random.default_rng(0).normal(size=(60, 3))
    for directions in (0, 1, 2.5):
        with pytest.raises(BenchError, match="directions must be"):
            sliced_wasserstein(x, x + 10, directions=directions)
