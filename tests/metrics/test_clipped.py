import numpy as np
import pytest
from scipy.stats import betabinom

from bench.errors import BenchError
from bench.metrics.clipped import (
    calibrated,
    clipped_coverage,
    clipped_density,
    expected_coverage,
    uncalibrated_coverage,
)


def by_definition(real, fake, k):
    """Clipped Density and uncalibrated Clipped Coverage, ball by ball."""
    among_real = np.linalg.norm(real[:, None] - real[None], axis=2)
    to_fake = np.linalg.norm(real[:, None] - fake[None], axis=2)
    np.fill_diagonal(among_real, np.inf)
    radius = np.sort(among_real, axis=1)[:, k - 1]
    clipped = np.minimum(radius, np.median(radius))
    of_fake = np.minimum((to_fake <= clipped[:, None]).sum(0) / k, 1).mean()
    of_real = np.minimum((among_real <= clipped[:, None]).sum(0) / k, 1).mean()
    return min(1, of_fake / of_real), np.minimum((to_fake <= radius[:, None]).sum(1) / k, 1).mean()


@pytest.mark.parametrize(("n", "m", "scale"), [(80, 60, 1.0), (60, 90, 1.5), (70, 70, 0.5), (50, 30, 4.0)])
def test_both_equal_their_definition(n, m, scale):
    rng = np.random.default_rng(n + m)
    real, fake = rng.exponential(size=(n, 4)), scale * rng.exponential(size=(m, 4))
    density, raw = by_definition(real, fake, 5)
    assert float(clipped_density(real, fake)) == pytest.approx(density, abs=1e-12)
    assert float(clipped_coverage(real, fake)) == pytest.approx(calibrated(raw, n, m, 5), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "k"), [(30, 10, 3), (200, 150, 5), (12, 400, 2)])
def test_expected_coverage_is_that_of_the_beta_binomial(n, m, k):
    samples = np.arange(m + 1)
    score = [np.minimum(samples[: j + 1], k) @ betabinom.pmf(samples[: j + 1], j, k, n - k) / k for j in samples]
    assert expected_coverage(n, samples, k) == pytest.approx(score, abs=1e-9)


def test_calibration_inverts_the_expectation():
    for share in (0.0, 0.3, 0.75, 1.0):
        raw = expected_coverage(300, np.array([share * 200]), 5)[0]
        assert calibrated(raw, 300, 200, 5) == pytest.approx(share, abs=1e-9)


def test_scores_are_shares_of_good_samples():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(600, 5))
    for share in (0.25, 0.5, 1.0):
        fake = rng.normal(size=(600, 5))
        fake[int(share * 600) :] += 100  # the rest is nowhere near
        density, coverage = clipped_density(real, fake), clipped_coverage(real, fake)
        assert float(density) == pytest.approx(share, abs=0.07)
        assert float(coverage) == pytest.approx(share, abs=0.07)
        assert density.low <= share + 0.05
        assert coverage.low - 0.03 <= share <= coverage.high + 0.03


def test_copies_of_the_reference_score_one():
    real = np.random.default_rng(2).normal(size=(200, 6)).astype(np.float32)
    assert float(clipped_density(real, real)) == 1
    assert float(clipped_coverage(real, real)) == 1


def test_dropped_modes_cost_coverage_and_noise_costs_density():
    rng = np.random.default_rng(3)
    centres = 8 * rng.normal(size=(5, 6))

    def sample(modes, noise=1.0):
        return centres[rng.integers(0, modes, 500)] + noise * rng.normal(size=(500, 6))

    real = sample(5)
    coverage = [float(clipped_coverage(real, sample(modes))) for modes in (1, 2, 4, 5)]
    density = [float(clipped_density(real, sample(5, noise))) for noise in (3.0, 2.0, 1.3, 1.0)]
    assert coverage == sorted(coverage)
    assert density == sorted(density)
    assert clipped_density(real, sample(1)) > 0.8  # one mode is still good data
    assert coverage[0] < 0.3


def test_invariant_to_order_rotation_scale_and_blocks(monkeypatch):
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(150, 4)), 1.3 * rng.normal(size=(120, 4))
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    before = float(clipped_density(real, fake)), float(clipped_coverage(real, fake))
    monkeypatch.setattr("bench.metrics.manifold.BLOCK_BYTES", 8 * 150 * 7)
    for x, y in (
        (rng.permutation(real), rng.permutation(fake)),
        (3 * real @ rotation + 5, 3 * fake @ rotation + 5),
    ):
        assert (float(clipped_density(x, y)), float(clipped_coverage(x, y))) == pytest.approx(before, abs=1e-12)


def test_intervals_hold_the_value_for_another_draw():
    rng = np.random.default_rng(5)
    real = rng.exponential(size=(200, 4))
    for metric in (clipped_density, clipped_coverage):
        drawn = [metric(real, 1.5 * rng.exponential(size=(200, 4))) for _ in range(60)]
        truth = np.mean([float(m) for m in drawn])
        assert np.mean([m.low <= truth <= m.high for m in drawn]) >= 0.85
        assert {m.n for m in drawn} == {200}


@pytest.mark.parametrize("scale", [1.0, 1.2, 1.5])
def test_coverage_interval_holds_the_calibrated_expected_score_also_at_the_ceiling(scale):
    rng = np.random.default_rng(21)
    real = rng.normal(size=(200, 5))
    expected = np.mean([uncalibrated_coverage(real, scale * rng.normal(size=(100, 5))) for _ in range(150)])
    truth = calibrated(expected, 200, 100, 5)
    drawn = [clipped_coverage(real, scale * rng.normal(size=(100, 5))) for _ in range(150)]
    assert np.mean([m.low <= truth <= m.high for m in drawn]) >= 0.88


def test_wrong_input_is_said():
    with pytest.raises(BenchError, match="k = 5"):
        clipped_density(np.zeros((6, 2)), np.zeros((6, 2)))
    assert clipped_coverage(np.random.default_rng(6).normal(size=(50, 2)), np.zeros((20, 2))).low is None


def test_few_good_samples_have_an_interval_that_is_not_empty():
    rng = np.random.default_rng()
    real = rng.normal(size=(200, 5))
    far = rng.normal(size=(100, 5)) + 50
    none = clipped_density(real, far)
    assert (float(none), none.low) == (0, 0)
    assert 0.02 < none.high < 0.1
    some = clipped_density(real, np.vstack([rng.normal(size=(3, 5)), far[:97]]))
    assert some.low < some < some.high
    coverage = clipped_coverage(real, far)
    assert (float(coverage), coverage.low) == (0, None)
    assert "only 0 of 100 samples are near real ones" in coverage.note
