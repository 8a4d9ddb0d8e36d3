"""Watched trainings become a picture: a panel a model, a line a seed, a cross where a look found a collapse."""

import math

import pytest

from bench.report.training_plot import ADVANTAGE, COLLAPSED, DIVERSITY, training_figure, write_training_plots
from tests.report.test_curves import record


def watched(model, seed, diversity, collapsed=(), advantage=(), steps=80):
    one = record(model, seed, (), 0.1)
    looks = [
        {"step": steps * (i + 1) // len(diversity), "diversity": d, "collapsed": i in collapsed}
        for i, d in enumerate(diversity)
    ]
    one.training = {"steps": steps, "diagnostics": {"collapse": looks}, "losses": {"advantage": list(advantage)}}
    return one


def lines(axes, colour):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines if line.get_color() == colour]


def test_every_seed_is_a_line_and_every_collapse_a_cross():
    game = [math.sin(i) for i in range(48)]
    seeds = [watched("gan", 0, (0.5, 1.2), {0}, game), watched("gan", 1, (0.9, 1.0), (), game)]
    gan, vae = list(training_figure({"gan": seeds, "vae": [watched("vae", 0, (0.7,))]}, "mnist").axes)
    assert [axes.get_title(loc="left") for axes in (gan, vae)] == ["gan", "vae"]
    assert lines(gan, DIVERSITY) == [([50.0, 100.0], [0.5, 1.2]), ([50.0, 100.0], [0.9, 1.0])]
    assert lines(gan, COLLAPSED)[0] == ([50.0], [0.5])
    x, y = lines(gan, ADVANTAGE)[0]
    assert len(y) == 12
    assert (x[0], x[-1]) == pytest.approx((100 / 24, 100 * 23 / 24))
    assert y == pytest.approx([sum(game[4 * i : 4 * i + 4]) / 4 for i in range(12)])
    assert all(not xs for xs, _ in lines(vae, ADVANTAGE)), "no game, no line"


def test_only_data_sets_that_were_watched_have_a_picture(tmp_path):
    unwatched = watched("ae", 0, (1.0,))
    unwatched.training["diagnostics"]["collapse_not_watched"] = (
        "samples of snapshots would take more than 10% of training"
    )
    assert write_training_plots([unwatched], tmp_path) == 0
    assert write_training_plots([unwatched, watched("gan", 0, (1.0, 0.4), {1})], tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training_digits.png", "training_digits.svg"]
