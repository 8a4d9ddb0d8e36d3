"""Series over commits: every measurement is one point, however many commits hold it."""

import numpy as np
import pytest
from rich.console import Console

from bench.gate.history import Commit, changes, read_history, series_of
from bench.report.history import history_renderable

from .records import commit, record, trained, write

KID, SPEED = "kid_effnetlite0", "sampling_throughput"


def history(*contents):
    """One commit for each list of records."""
    return [(Commit(f"{i:040d}", i, f"change {i}"), list(records)) for i, records in enumerate(contents)]


def measured(values, started):
    return trained("vae", KID, values, started=started)


def test_commits_that_repeat_the_trials_of_another_add_no_point():
    """Three measurements, each seen at four commits that touched another file."""
    runs = [measured([0.1 + i, 0.2 + i, 0.3 + i], started=f"day {i}") for i in range(3)]
    [one] = series_of(history(*(run for run in runs for _ in range(4))))
    assert one.values == pytest.approx((0.2, 1.2, 2.2))
    assert [c.subject for c in one.commits] == ["change 0", "change 4", "change 8"]


def test_an_equal_value_of_another_run_is_a_point_and_so_is_a_further_seed():
    runs = [measured([0.1, 0.1, 0.1], "day 0"), measured([0.1, 0.1, 0.1], "day 1"), measured([0.1] * 4, "day 1")]
    [one] = series_of(history(*runs))
    assert len(one.values) == 3


def test_trials_that_were_scored_again_stay_one_point_with_the_new_score():
    [one] = series_of(history(measured([1.0, 2.0, 3.0], "day 0"), measured([2.0, 3.0, 4.0], "day 0")))
    assert (one.values, [c.subject for c in one.commits]) == ((3.0,), ["change 0"])


def test_a_repeat_behind_one_that_was_measured_otherwise_is_still_a_repeat():
    first, other = measured([1.0, 2.0], "day 0"), trained("vae", KID, [1.0, 2.0], started="day 1", n=500)
    [one] = series_of(history(first, other, first))
    assert len(one.values) == 1


def test_repeated_measurements_give_no_more_false_alarms_than_promised():
    """Nothing changed: eight measurements, each at three commits. At most 1 % of such series may show a change."""
    rng = np.random.default_rng(0)
    series, copies, alarms = 150, 0, 0
    for number in range(series):
        runs = [measured(list(rng.lognormal(0, 0.3, 3)), f"{number} {i}") for i in range(8)]
        [one] = series_of(history(*(run for run in runs for _ in range(3))))
        copies += len(one.values) - len(runs)
        alarms += bool(changes([one]))
    assert copies == 0
    assert alarms <= 6  # 0.01 * 150 and four standard deviations


def test_committed_files_of_two_suites_and_the_sentence_on_short_series(tmp_path, monkeypatch):
    """Every commit measures one suite; the records of the other are repeated by it."""
    monkeypatch.chdir(tmp_path)
    for i in range(7):
        suite = ("ci", "nightly")[i % 2]
        (tmp_path / "results" / suite / "records.jsonl").unlink(missing_ok=True)
        write(tmp_path / "results", [record("vae", 0, {KID: 1.0 + i / 100, SPEED: 100.0 + i}, suite=suite)])
        commit(tmp_path, f"change {i}")
    found = series_of(read_history(tmp_path / "results"))
    assert {(one.subject, one.metric): len(one.values) for one in found} == {
        ("ci/digits16/vae", KID): 4, ("ci/digits16/vae", SPEED): 4,
        ("nightly/digits16/vae", KID): 3, ("nightly/digits16/vae", SPEED): 3,
    }  # fmt: skip
    console = Console(width=200, record=True)
    console.print(history_renderable(found, []))
    assert "4 of 4 series have fewer than 6 measurements (a commit that repeats one adds none)" in console.export_text()
