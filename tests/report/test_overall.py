"""All data sets of a suite in one table: against the functions of bench.stats on the same numbers, and in words."""

import io

import numpy as np
import pytest
from rich.console import Console

from bench.cli import app
from bench.errors import BenchError
from bench.report.overall import overall
from bench.report.overall_text import overall_markdown, overall_renderable, sentences, standings
from bench.report.preferences import read_votes, strengths
from bench.stats.aggregate import aggregate, iqm, normalised, probability_of_improvement
from bench.stats.ranking import bradley_terry, mean_ranks, pairwise_p_values

from .results import COVERAGE, KID, failure, frame, rows

SETS = ("digits", "emoji")


def suite(values, metric=KID, anchors=((1.0, 0.0), (2.0, 0.1)), more=()):
    """values: model -> (seeds, data sets). anchors: of each data set the baseline's value and the floor's."""
    parts = list(more)
    for task, name in enumerate(SETS):
        worst, best = anchors[task]
        seeds = len(next(iter(values.values())))
        parts.append(rows("noise", {metric: [worst] * seeds}, role="baseline", dataset=name))
        parts.append(rows("floor", {metric: [best] * seeds}, role="floor", dataset=name))
        parts += [rows(model, {metric: list(x[:, task])}, dataset=name) for model, x in values.items()]
    return frame(*parts)


@pytest.fixture
def values():
    rng = np.random.default_rng()
    return {name: rng.normal(centre, 0.05, (4, 2)) for name, centre in (("a", 0.3), ("b", 0.35), ("c", 0.6))}


def test_numbers_are_those_of_the_score_matrices(values):
    found = overall(suite(values))
    scores = {name: normalised(x, [1.0, 2.0], [0.0, 0.1]) for name, x in values.items()}
    ranks = mean_ranks([list(x.T) for x in values.values()], ["lower"] * 2)
    by_name = {row.model: row for row in found.standings}
    for (name, x), rank in zip(scores.items(), ranks):
        assert by_name[name].score == aggregate(x)
        assert by_name[name].score.value == pytest.approx(float(iqm(x)))
        assert by_name[name].ranks.mean == rank.mean
        assert by_name[name].ranks.best == pytest.approx(rank.best, abs=0.05)  # ten thousand draws
        assert by_name[name].profile[0].value == pytest.approx((x > 0.5).mean())
    first, second = found.standings[0].model, found.standings[1].model
    assert found.improvement[0][1] == probability_of_improvement(scores[second], scores[first])
    assert found.improvement[0][1].value == pytest.approx(1 - found.improvement[1][0].value)
    assert [row.model for row in found.standings][-1] == "c"
    means = [scores[row.model].mean(axis=1) for row in found.standings]
    assert found.p == pytest.approx(pairwise_p_values(means, paired=True))


def test_higher_is_better_turns_the_order(values):
    found = overall(suite(values, COVERAGE, anchors=((0.0, 1.0), (0.0, 1.0))))
    assert found.standings[0].model == "c"
    assert found.standings[0].score.value > 0.5


def test_an_incomplete_model_is_named_and_not_ranked(values):
    found = overall(suite(values, more=[failure("d", 0), rows("e", {KID: [0.1] * 4})]))
    assert {row.model for row in found.standings} == {"a", "b", "c"}
    assert found.left_out["e"] == "emoji: not run"
    assert "diverged" in found.left_out["d"]
    assert any(text.startswith("Not ranked: d (digits: 0/4") for text in sentences(found))
    with pytest.raises(BenchError, match="no model is complete on every data set"):
        overall(suite({"a": values["a"]}).query("not (model == 'a' and dataset == 'emoji')"))


def test_without_anchors_there_are_ranks_but_no_scores(values):
    found = overall(suite(values), worst="gaussian")
    assert found.worst == ""
    assert found.p is None
    assert all(row.score is None and row.ranks is not None for row in found.standings)
    assert any("--worst" in text for text in sentences(found))


def test_one_seed_gives_order_and_no_interval(values):
    found = overall(suite({name: x[:1] for name, x in values.items()}))
    assert found.standings[-1].model == "c"
    assert all(row.ranks is None and row.score.low is None for row in found.standings)
    assert "1 seed(s) separate nobody" in " ".join(sentences(found))


def test_tables_hold_every_model_and_pair(values):
    found = overall(suite(values))
    assert len({len(line) for line in standings(found)}) == 1
    text = overall_markdown(found)
    assert text.count("\n| a |") == 2
    assert "P(best)" in text
    assert "better than" in text


def test_the_terminal_shows_interquartile_mean_and_performance_profile(values):
    """All that the method of the paper gives is reached by `bench rank` itself; the Markdown adds the table of all pairs."""
    out = io.StringIO()
    Console(file=out, width=80).print(overall_renderable(overall(suite(values))))
    text = out.getvalue()
    for words in ("score (IQM)", "better than next", "performance profile", "runs > 0.5", "runs > 0.9"):
        assert words in text
    assert text.count("100% [") >= 2  # a and b are above 0.5 in all runs


def test_one_run_against_one_is_no_frequency():
    one = overall(suite({"a": np.array([[0.3, 0.3]]), "b": np.array([[0.5, 0.5]])}))
    assert one.improvement[0][1].value == 1.0
    assert [line[-2] for line in standings(one)[1:]] == ["–", "–"]
    assert "100%" not in overall_markdown(one).split("better than")[-1]


def test_votes_become_strengths(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("winner,loser,tie\nb,a,\nb,a,\nb,a,0\na,b,\nc,b,1\nc,a,true\n")
    found = strengths(read_votes(path))
    expected = bradley_terry([[0, 1, 0.5], [3, 0, 0.5], [0.5, 0.5, 0]])
    assert {name: found[name] for name in "abc"} == dict(zip("abc", expected))
    assert next(iter(found)) == "b"


@pytest.mark.parametrize(
    ("text", "says"),
    [("a,b\nx,y\n", "winner,loser"), ("winner,loser\nx,x\n", "line 2"), ("winner,loser\n", "holds no vote")],
)
def test_wrong_votes_are_one_sentence(text, says, tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(BenchError, match=says):
        read_votes(path)


def test_the_command_ranks_stored_records_and_votes(tmp_path):
    from pathlib import Path

    from typer.testing import CliRunner

    shipped = Path(__file__).parents[2] / "results" / "quick"
    done = CliRunner().invoke(app, ["rank", str(shipped), "--markdown", str(tmp_path / "rank.md")])
    assert done.exit_code == 0, done.output
    assert "P(best)" in done.output
    assert "ddpm-16px" in (tmp_path / "rank.md").read_text()
    (tmp_path / "votes.csv").write_text("winner,loser\nb,a\n")
    done = CliRunner().invoke(app, ["rank", "--preferences", str(tmp_path / "votes.csv")])
    assert "log-odds against a" in done.output
