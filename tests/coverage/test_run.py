import dataclasses
import json

import numpy as np
import pytest

from bench.coverage import run as coverage
from bench.coverage.cases import Case, all_cases
from bench.coverage.page import page
from bench.coverage.row import Row, row_of, simulate
from bench.errors import BenchError
from bench.metrics.intervals import mean_of
from bench.record import Measurement


def rows_of_a_mean(width, repetitions, seed):
    """The t interval of a normal mean, scaled by ``width``."""
    rng = np.random.default_rng(seed)

    def draw():
        found = mean_of(rng.normal(size=50), name="mean")
        half = width * (found.high - found.low) / 2
        return found.replace(low=float(found) - half, high=float(found) + half)

    return [simulate("mean", "normal", 50, 0.0, draw, repetitions)]


def test_coverage_is_counted():
    (right,) = rows_of_a_mean(1.0, 400, 0)
    (narrow,) = rows_of_a_mean(0.5, 400, 0)
    (wide,) = rows_of_a_mean(2.0, 400, 0)
    assert 0.92 < right.coverage < 0.98
    assert right.verdict == "holds"
    assert narrow.coverage == pytest.approx(0.67, abs=0.08)
    assert narrow.verdict == "TOO NARROW"
    assert wide.verdict == "conservative"
    assert right.sd == pytest.approx(1 / np.sqrt(50), rel=0.15)


def test_intervals_that_are_not_offered_are_not_counted():
    values = [Measurement(1.0, name="x", low=0.5, high=1.5), Measurement(9.0, name="x", note="no interval")]
    row = row_of("x", "two", values, 1.0, n=3, target="true value")
    assert (row.coverage, row.offered, row.repetitions) == (1.0, 0.5, 2)
    none = row_of("x", "none", values[1:], 1.0, n=3, target="true value")
    assert none.coverage is None
    assert none.verdict == "none offered"


def test_cases_have_names_of_their_own_and_digests_follow_code():
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases) > 50
    assert len({case.digest for case in cases}) > 5


def test_finished_cases_are_kept_and_only_stale_ones_run_again(tmp_path, monkeypatch):
    runs = []

    def case(name):
        def work(repetitions, seed):
            runs.append(name)
            if name == "breaks":
                raise KeyboardInterrupt
            return rows_of_a_mean(1.0, repetitions, seed)

        return Case(name, work, (), "examples")

    file = tmp_path / "rows.jsonl"
    monkeypatch.setattr(coverage, "all_cases", lambda: [case("one"), case("two")])
    with pytest.raises(KeyboardInterrupt):
        coverage.run_cases([case("one"), case("breaks")], file, 20, 0)
    assert list(coverage.read_rows(file)) == ["one"]
    stored = coverage.run_cases([case("one"), case("two")], file, 20, 0)
    assert runs == ["one", "breaks", "two"]
    assert len(coverage.rows_of(stored, coverage.all_cases())) == 2
    coverage.run_cases([case("one")], file, 30, 0)
    assert runs[-1] == "one", "more repetitions are another run"
    assert [json.loads(line)["case"] for line in file.read_text().splitlines()] == ["one", "two"]
    coverage.write_page(tmp_path / "page.md", stored)
    assert "| normal |" in (tmp_path / "page.md").read_text()


def test_the_rows_do_not_depend_on_the_number_of_processes(tmp_path):
    cases = coverage.choose(["means", "shares", "areas"])
    alone = coverage.run_cases(cases, tmp_path / "alone.jsonl", 20, 0)
    seen = []
    together = coverage.run_cases(cases, tmp_path / "together.jsonl", 20, 0, seen.append, jobs=2)
    assert together == alone
    assert sorted(seen) == sorted(case.name for case in cases)
    assert (tmp_path / "together.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()
    coverage.run_cases(cases, tmp_path / "together.jsonl", 20, 0, seen.append, jobs=2)
    assert len(seen) == 2 * len(cases), "finished ones are reported as well"


def test_the_page_counts_verdicts_by_metric():
    row = rows_of_a_mean(1.0, 100, 1)[0]
    narrow = dataclasses.replace(row, coverage=0.5)
    text = page(
        [
            row,
            narrow,
            dataclasses.replace(row, metric="other", coverage=None, offered=0.0),
            dataclasses.replace(row, metric="other"),
        ]
    )
    assert "| `mean` | 2 |" in text
    assert "1 TOO NARROW, 1 holds" in text
    assert "1 none offered" in text


def test_unknown_names_and_damaged_files_are_one_sentence(tmp_path):
    with pytest.raises(BenchError, match="no simulation begins with 'vendy'"):
        coverage.choose(["vendy"])
    (tmp_path / "rows.jsonl").write_text("not json\n")
    with pytest.raises(BenchError, match="does not hold coverage rows"):
        coverage.read_rows(tmp_path / "rows.jsonl")


def test_the_committed_table_has_every_case_and_none_too_narrow():
    from pathlib import Path

    docs = Path(__file__).parents[2] / "docs"
    stored = coverage.read_rows(docs / "intervals.jsonl")
    assert set(stored) == {case.name for case in all_cases()}
    rows = [Row(**fields) for entry in stored.values() for fields in entry["rows"]]
    assert not [row for row in rows if row.verdict == "TOO NARROW"]
    assert (docs / "intervals.md").read_text() == page(coverage.rows_of(stored, all_cases()))
