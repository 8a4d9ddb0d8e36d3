"""What is averaged, ranked and marked."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.report.columns import group_and_importance
from bench.report.leaderboard import leaderboard, leaderboards

from .results import COLLAPSED, COVERAGE, FD, KID, MEMORY, SPEED, example, failure, frame, rows


def test_cells_are_means_over_seeds_with_t_intervals():
    rng = np.random.default_rng()
    values = rng.gamma(3, size=5)
    board = leaderboard(frame(rows("a", {KID: list(values)}), rows("b", {KID: list(values + 9)})))
    cell = board.row("a").cells[board.column(KID)]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (cell.value, cell.low, cell.high) == pytest.approx((values.mean(), expected.low, expected.high))
    assert cell.n == 5


def test_verdicts_of_few_seeds_are_shares_and_separate_nobody():
    """0 of 3 seeds collapsed leaves room for every second one; a t interval of three zeros would not."""
    verdicts = {"a": [0, 0, 0], "b": [1, 1, 1], "c": [0, 1, 0]}
    board = leaderboard(frame(*(rows(model, {KID: [1, 2, 3], COLLAPSED: v}) for model, v in verdicts.items())))
    cells = {model: board.row(model).cells[board.column(COLLAPSED)] for model in verdicts}
    assert {cell.method for cell in cells.values()} == {"wilson"}
    assert (cells["a"].low, cells["a"].high) == (0, pytest.approx(0.5615, abs=1e-4))
    assert (cells["b"].low, cells["b"].high) == (pytest.approx(0.4385, abs=1e-4), 1)
    assert board.column(COLLAPSED) not in board.best


@pytest.mark.parametrize(
    ("metric", "group"),
    [
        ("repetitions_effnetlite0", "diversity"),
        ("ppl_w_full_l2", "latent space"),
        ("codes_used", "latent space"),
        ("code_perplexity", "latent space"),
        ("accuracy_dataset_classifier", "judge"),
        ("classification_accuracy_score", "quality"),
        ("a_metric_of_a_plugin", "quality"),
    ],
)
def test_groups(metric, group):
    assert group_and_importance(metric)[0] == group


def test_order_sections_and_rank_ranges():
    board = leaderboard(example())
    assert board.rank_by.metric == KID
    assert [(row.model, row.section, row.rank_text) for row in board.rows] == [
        ("floor", "floor", ""),
        ("ddpm", "ranked", "1–2"),
        ("flow", "ranked", "1–2"),
        ("gan", "ranked", "3"),
        ("vae", "ranked", "4"),
        ("wgan", "incomplete", ""),
        ("copy-train", "baseline", ""),
        ("noise", "baseline", ""),
    ]
    assert board.rows[0].label == "floor (real train images vs test)"


def test_pareto_front_and_mean_rank_over_the_objectives():
    board = leaderboard(example())
    assert [c.metric for c in board.objectives] == [KID, SPEED]
    # ddpm is as good as flow within noise and slower beyond it; the VAE is worse and slower than the GAN.
    assert [row.model for row in board.rows if row.front] == ["flow", "gan"]
    assert board.row("flow").mean_rank == (2.5, 2.0, 2.5)  # quality: 2nd, somewhere in 1-2; speed: 3rd
    assert board.row("gan").mean_rank == (2.0, 2.0, 2.0)
    assert board.row("wgan").mean_rank is None


def test_best_is_marked_only_beyond_the_interval_of_every_other_ranked_row():
    board = leaderboard(example())
    assert board.column(KID) not in board.best  # ddpm and flow overlap
    assert board.column(FD) not in board.best
    assert board.best[board.column(SPEED)] == "gan"  # far faster copy-train is no rival: baselines are not ranked
    assert board.best[board.column(MEMORY)] == "gan"


def test_a_failed_trial_takes_its_row_out_of_the_ranking_but_not_out_of_the_table():
    board = leaderboard(example())
    row = board.row("wgan")
    assert (row.completed, row.expected, row.seeds_text) == (2, 3, "2/3: 1 diverged")
    assert row.failures[0].reason == "loss is not finite at step 40"
    assert row.cells[board.column(KID)].value == pytest.approx(0.0305)
    assert row.missing == (KID, SPEED)


def test_a_model_that_failed_everywhere_or_never_ran_a_seed_is_a_row():
    board = leaderboard(
        frame(
            rows("a", {KID: [1, 2, 3]}),
            failure("b", 0, "out-of-memory"), failure("b", 1, "timeout", None), failure("b", 2, "timeout", None),
            rows("c", {KID: [1, 2]}),
        )
    )  # fmt: skip
    assert board.row("b").seeds_text == "0/3: 1 out-of-memory, 2 timeout"
    assert [f.reason for f in board.row("b").failures] == ["loss is not finite at step 40", "", ""]
    assert not board.row("b").cells
    assert board.row("c").seeds_text == "2/3: 1 not run"
    assert [row.section for row in board.rows] == ["ranked", "incomplete", "incomplete"]


def test_nothing_but_failures_still_gives_a_table():
    board = leaderboard(frame(failure("a", 0), failure("b", 0)), rank_by=KID, objectives=[KID])
    assert [row.section for row in board.rows] == ["incomplete", "incomplete"]
    assert board.rank_by is None


def test_a_required_cell_that_is_missing_or_not_finite_makes_a_row_incomplete():
    board = leaderboard(
        frame(
            rows("a", {KID: [1, 2, 3], SPEED: [5, 5, 6]}),
            rows("b", {KID: [1, 2, 3]}),
            rows("c", {KID: [1, 2, np.nan], SPEED: [5, 5, 6]}),
        )
    )
    assert {row.model: (row.section, row.missing) for row in board.rows} == {
        "a": ("ranked", ()),
        "b": ("incomplete", (SPEED,)),
        "c": ("incomplete", (KID,)),
    }


def test_numbers_of_different_protocols_are_never_averaged_or_put_in_one_column():
    board = leaderboard(
        frame(
            rows("a", {KID: [1, 1.1, 1.2]}),
            rows("b", {KID: [2, 2.1, 2.2]}),
            rows("c", {KID: [0.1, 0.2, 0.3]}, protocol="bbbbbbbbbbbb"),
        )
    )
    assert [c.name for c in board.columns] == [f"{KID} @aaaaaa", f"{KID} @bbbbbb"]
    assert board.rank_by.protocol == "aaaaaaaaaaaa"
    assert [row.section for row in board.rows] == ["ranked", "ranked", "incomplete"]
    mixed = frame(rows("a", {KID: [1, 1.1]}), rows("a", {KID: [1.2]}, seeds=[2], protocol="bbbbbbbbbbbb"))
    assert leaderboard(mixed).row("a").missing == (f"{KID} @aaaaaa",)


def test_speeds_of_different_machines_stand_apart_and_qualities_do_not():
    board = leaderboard(
        frame(
            rows("a", {KID: [1, 1.1, 1.2], SPEED: [10, 11, 12]}),
            rows("b", {KID: [2, 2.1, 2.2], SPEED: [50, 51, 52]}, environment="ffffffffffff"),
        ),
        objectives=[KID],
    )
    assert [c.name for c in board.columns] == [KID, f"{SPEED} @eeeeee", f"{SPEED} @ffffff"]
    assert board.environments == ("eeeeeeeeeeee", "ffffffffffff")
    assert [row.rank_text for row in board.rows] == ["1", "2"]


def test_one_or_two_seeds_rank_nobody_first():
    for count in (1, 2):
        values = [0.1, 0.1001][:count]
        board = leaderboard(
            frame(
                rows("a", {KID: (values, [0.0001] * count)}), rows("b", {KID: ([9 + v for v in values], [0.1] * count)})
            )
        )
        assert [row.rank_text for row in board.rows] == ["1–2", "1–2"]
        assert not board.best
    one = leaderboard(frame(rows("a", {KID: ([0.5], [0.01])})))
    assert one.row("a").cells[one.column(KID)] == (0.5, 0.49, 0.51, 1, "sampling")


def test_a_deterministic_row_shows_its_sampling_interval_not_zero_width():
    board = leaderboard(example())
    assert board.row("floor").cells[board.column(FD)] == (3.1, pytest.approx(2.9), pytest.approx(3.3), 3, "sampling")


def test_only_the_last_trial_of_a_model_and_seed_counts():
    old = rows("a", {KID: [100.0, 100.0, 100.0]}, trial="old")
    board = leaderboard(
        frame(old, rows("a", {KID: [1, 2, 3]}), failure("a", 3), rows("a", {KID: [2]}, seeds=[3], trial="rerun"))
    )
    assert board.row("a").cells[board.column(KID)].value == 2.0
    assert board.row("a").completed == 4
    twice = frame(rows("a", {KID: [1, 2]}), rows("a", {KID: [1, 2]}))
    with pytest.raises(BenchError, match="has 'kid_effnetlite0' twice"):
        leaderboard(twice)


def test_a_share_keeps_its_unit_beside_a_baseline_and_a_distance_does_not():
    board = leaderboard(
        frame(
            rows("gan", {KID: [0.01, 0.02], COVERAGE: [0.003, 0.004]}),
            rows("copy-train", {KID: [0.5, 0.5], COVERAGE: [0.75, 0.76]}, family="baseline", role="baseline"),
        )
    )
    assert board.scale(board.column(COVERAGE)) == 0
    assert board.scale(board.column(KID)) == -3


def test_verdicts_over_seeds_are_a_share_with_an_interval_within_0_and_1():
    cell = leaderboard(frame(rows("gan", {COVERAGE: [0.0, 1.0, 1.0]}))).row("gan").cells
    [share] = cell.values()
    assert (share.value, share.method) == (2 / 3, "wilson")
    assert 0 < share.low < 2 / 3 < share.high < 1


def test_the_columns_of_the_first_table_can_be_chosen():
    board = leaderboard(example(), first=[FD, "oscillation", KID])
    assert [c.metric for c in board.key_columns(7)] == [FD, KID], "in this order, what was not measured left out"
    assert len(board.columns) > 2, "all others follow"
    assert [c.metric for c in leaderboard(example()).key_columns(2)] == [KID, SPEED]


def test_columns_objectives_rank_and_seeds_can_be_chosen():
    board = leaderboard(example(), [COVERAGE, FD], rank_by=FD, objectives=[FD, COVERAGE])
    assert [c.metric for c in board.columns] == [COVERAGE, FD]
    assert [row.model for row in board.section("ranked")] == ["flow", "ddpm", "gan", "vae"]
    assert [row.model for row in board.rows if row.front] == ["flow", "ddpm"]
    two = leaderboard(example(), seeds=[0, 1])
    assert two.row("wgan").section == "ranked"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rank_by": "kid_efnetlite0"}, "did you mean 'kid_effnetlite0'"),
        ({"columns": ["nothing"]}, "no measurement 'nothing'"),
        ({"objectives": [KID, "speed"]}, "no measurement 'speed'"),
    ],
)
def test_wrong_names_are_one_sentence(arguments, says):
    with pytest.raises(BenchError, match=says):
        leaderboard(example(), **arguments)


def test_a_metric_without_direction_cannot_rank():
    with pytest.raises(BenchError, match="no better direction"):
        leaderboard(frame(rows("a", {KID: [1]}, direction="none")), rank_by=KID)


def test_one_table_for_each_suite_data_set_and_budget():
    both = frame(rows("a", {KID: [1, 2, 3]}), rows("a", {KID: [1, 2, 3]}, dataset="mnist"))
    assert [(b.suite, b.dataset) for b in leaderboards(both)] == [("quick", "digits"), ("quick", "mnist")]
    with pytest.raises(BenchError, match="'digits', 'mnist'; use leaderboards"):
        leaderboard(both)
    budgets = frame(rows("a", {KID: [1]}, budget="30 seconds"), rows("b", {KID: [1]}, budget="60 seconds"))
    assert [b.budget for b in leaderboards(budgets)] == ["30 seconds", "60 seconds"]
    with pytest.raises(BenchError, match="one budget"):
        leaderboard(budgets)


def test_a_frame_that_is_empty_or_lacks_a_column_says_so():
    with pytest.raises(BenchError, match="lacks the column 'protocol'"):
        leaderboard(example().drop(columns="protocol"))
    with pytest.raises(BenchError, match="empty"):
        leaderboard(example().iloc[:0])


def test_frame_is_long_and_in_full_precision():
    board = leaderboard(example())
    table = board.frame()
    line = table[(table.model == "ddpm") & (table.metric == FD)].iloc[0]
    assert line.value == 21.0
    assert line.high == pytest.approx(21 + 4.302652729911275 / 3**0.5)
    assert (line.rank_low, line.rank_high, line.seeds, line.status) == (1, 2, 3, "3/3")
    assert pd.isna(table[table.model == "noise"].rank_low).all()
    assert len(table) == sum(max(1, len(row.cells)) for row in board.rows)


def test_row_order_of_the_frame_changes_nothing():
    shuffled = example().sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(leaderboard(example()).frame(), leaderboard(shuffled).frame())
