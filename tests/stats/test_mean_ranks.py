"""Mean ranks with P(best), pairwise tests and Bradley-Terry strengths: closed forms, choix, and simulation."""

import numpy as np
import pytest
from scipy import special, stats

from bench.errors import BenchError
from bench.stats.ranking import bradley_terry, mean_ranks, pairwise_p_values


def test_mean_rank_is_the_mean_over_tasks_of_the_rank_of_the_mean():
    cells = [
        [[1.0, 1.1, 1.2], [5.0, 5.1, 5.2]],  # 1st where lower is better, 1st where higher is
        [[2.0, 2.1, 2.2], [3.0, 3.1, 3.2]],  # 2nd, 2nd
        [[3.0, 3.1, 3.2], [3.0, 3.1, 3.2]],  # 3rd, tied 2nd
    ]
    ranks = mean_ranks(cells, ["lower", "higher"])
    assert [r.mean for r in ranks] == [1.0, 2.25, 2.75]
    assert ranks[0].best > 0.95
    assert sum(r.best for r in ranks) == pytest.approx(1)
    assert all(r.low <= r.mean <= r.high for r in ranks)


def test_two_models_one_task_equals_the_behrens_fisher_probability():
    """P(best) of two cells with equal s and n is P(difference of two scaled t variates > gap), by numerical integration."""
    a, b = np.array([1.0, 1.4, 1.2]), np.array([1.3, 1.7, 1.5])
    gap = (b.mean() - a.mean()) / (a.std(ddof=1) / 3**0.5)
    x = np.linspace(-400, 400, 400_001)
    expected = np.trapezoid(stats.t.pdf(x, 2) * stats.t.cdf(x + gap, 2), x)
    assert mean_ranks([[a], [b]], ["lower"], draws=100_000)[0].best == pytest.approx(expected, abs=0.006)


def test_probability_of_being_first_is_calibrated():
    rng = np.random.default_rng(4)
    claimed, right = [], []
    for _ in range(1500):
        truth = rng.normal(0, 1.5, 4)
        ranks = mean_ranks([[rng.normal(mu, 1, 4)] for mu in truth], ["higher"], draws=300)
        favourite = int(np.argmax([r.best for r in ranks]))
        claimed.append(ranks[favourite].best)
        right.append(favourite == int(np.argmax(truth)))
    claimed, right = np.array(claimed), np.array(right)
    assert claimed.mean() == pytest.approx(right.mean(), abs=0.05)
    sure = claimed > 0.9
    assert sure.sum() > 100
    assert right[sure].mean() >= 0.9


def test_rank_interval_covers_the_true_mean_rank():
    rng = np.random.default_rng(5)
    truth = np.array([[0.0, 0.3, 0.0], [0.5, 0.0, 0.2], [3.0, 3.0, 3.0]])
    expected = (stats.rankdata(truth, axis=0)).mean(axis=1)
    hits = np.zeros(3)
    for _ in range(400):
        cells = [[rng.normal(mu, 1, 3) for mu in row] for row in truth]
        hits += [
            r.low - 1e-9 <= e <= r.high + 1e-9 for r, e in zip(mean_ranks(cells, ["lower"] * 3, draws=400), expected)
        ]
    assert (hits / 400 >= 0.93).all()


def test_ranks_are_seeded_and_refuse_single_seeds_and_incomplete_rows():
    cells = [[[1.0, 2.0]], [[1.5, 2.5]]]
    assert mean_ranks(cells, ["lower"], seed=1) == mean_ranks(cells, ["lower"], seed=1)
    with pytest.raises(BenchError, match="two seeds"):
        mean_ranks([[[1.0]], [[2.0, 3.0]]], ["lower"])
    with pytest.raises(BenchError, match="complete rows only"):
        mean_ranks([[[1.0, 2.0]], [[2.0, 3.0], [1.0, 1.0]]], ["lower"])
    with pytest.raises(BenchError, match="'higher' or 'lower'"):
        mean_ranks(cells, ["none"])


def test_pairwise_tests_are_holm_adjusted_and_keep_the_family_wise_rate():
    rng = np.random.default_rng(6)
    groups = rng.normal(size=(4, 6))
    raw = [stats.ttest_rel(groups[i], groups[j]).pvalue for i in range(4) for j in range(i + 1, 4)]
    p = pairwise_p_values(groups, paired=True)
    assert p[0, 1] == p[1, 0]
    assert (np.diag(p) == 1).all()
    assert p.min() == pytest.approx(min(1.0, 6 * min(raw)))
    alarms = sum((pairwise_p_values(rng.normal(size=(4, 5)), paired=False) <= 0.05).any() for _ in range(1000))
    assert alarms / 1000 <= 0.05 + 4 * (0.05 / 1000) ** 0.5


def test_bradley_terry_equals_choix():
    choix = pytest.importorskip("choix")
    rng = np.random.default_rng()
    strength = rng.normal(size=5)
    games = [(i, j) if rng.random() < special.expit(strength[i] - strength[j]) else (j, i)
             for i in range(5) for j in range(5) if i != j for _ in range(8)]  # fmt: skip
    wins = np.zeros((5, 5))
    for winner, loser in games:
        wins[winner, loser] += 1
    theirs = choix.opt_pairwise(5, games, alpha=0.1, tol=1e-10)
    ours = np.array(
        [e.value for e in bradley_terry(wins, ridge=0.2)]
    )  # choix penalises alpha, we ridge / 2, times the squares
    assert ours == pytest.approx(theirs - theirs[0], abs=1e-4)


def test_bradley_terry_of_two_models_is_the_log_odds():
    estimate = bradley_terry([[0, 30], [10, 0]], anchor=1, ridge=1e-9)[0]
    assert estimate.value == pytest.approx(np.log(3), abs=1e-6)
    assert estimate.half_width == pytest.approx(1.959964 * (1 / 30 + 1 / 10) ** 0.5, rel=1e-4)


def test_bradley_terry_stays_finite_when_one_model_always_wins_and_anchors_at_zero():
    estimates = bradley_terry([[0, 9, 9], [0, 0, 5], [0, 4, 0]], anchor=2)
    assert np.isfinite([[e.value, e.low, e.high] for e in estimates]).all()
    assert estimates[2][:3] == (0.0, 0.0, 0.0)
    assert estimates[0].low > 0
    with pytest.raises(BenchError, match="square"):
        bradley_terry([[0, 1, 2], [1, 0, 1]])


def test_bradley_terry_interval_covers():
    rng = np.random.default_rng(8)
    strength, hits = np.array([0.0, 0.5, 1.0]), 0
    for _ in range(400):
        wins = np.zeros((3, 3))
        for i, j in [(0, 1), (0, 2), (1, 2)]:
            wins[i, j] = rng.binomial(40, special.expit(strength[i] - strength[j]))
            wins[j, i] = 40 - wins[i, j]
        estimate = bradley_terry(wins)[2]
        hits += estimate.low <= 1.0 <= estimate.high
    assert 0.92 <= hits / 400 <= 0.985


def test_from_estimates_as_from_scores():
    """Means with their t intervals hold all that the draws need; without intervals there are no chances."""
    from bench.stats.intervals import t_interval
    from bench.stats.ranking import mean_ranks_of_estimates

    rng = np.random.default_rng(11)
    cells = [[rng.normal(mean, 1, 4) for _ in range(2)] for mean in (0, 0.5, 2)]
    estimates = [[t_interval(scores) for scores in model] for model in cells]
    expected = mean_ranks(cells, ["lower", "higher"])
    found = mean_ranks_of_estimates(estimates, ["lower", "higher"])
    assert found is not None
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-9)
    assert mean_ranks_of_estimates([[t_interval([1.0, 2.0])], [t_interval([1.0, 2.0])]], ["lower"]) is None
