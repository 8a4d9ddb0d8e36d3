"""The store keeps every finished record whatever happens to the process that writes."""

import os
import signal
import subprocess
import sys
import time

import pytest

import bench
from bench.errors import BenchError
from bench.record import MeasurementFields, Record
from bench.store import ResultStore, load_results, write_atomically


def make(trial="t0", model="vae", seed=0, value=1.0, status="complete"):
    measurements = [MeasurementFields(name="kid", value=value, low=value - 1, high=value + 1, n=5)]
    return Record(
        trial=trial,
        suite="s",
        dataset="d",
        model=model,
        seed=seed,
        status=status,
        reason=None if status == "complete" else "it broke",
        started="2026-01-01T00:00:00+00:00",
        budget={"steps": 3},
        config={},
        measurements=measurements if status == "complete" else [],
        scoring={},
        environment="e",
        provenance={},
    )


def test_appends_and_reads_back(tmp_path):
    store = ResultStore(tmp_path)
    for seed in range(3):
        store.append(make(trial=f"t{seed}", seed=seed, value=seed))
    assert [record.seed for record in store.records()] == [0, 1, 2]


def test_the_last_record_of_a_cell_wins(tmp_path):
    store = ResultStore(tmp_path)
    store.append(make(trial="old", value=1.0))
    store.append(make(trial="new", value=2.0))
    assert [record.trial for record in store.current()] == ["new"]
    assert len(store.records()) == 2


def test_a_torn_last_line_costs_that_line_only(tmp_path):
    store = ResultStore(tmp_path)
    store.append(make(trial="a"))
    with open(store.path, "ab") as file:
        file.write(make(trial="torn").to_line().encode()[:60])
    assert [record.trial for record in store.records()] == ["a"]
    store.append(make(trial="b"))
    assert [record.trial for record in store.records()] == ["a", "b"]


def test_a_foreign_schema_names_file_and_line(tmp_path):
    store = ResultStore(tmp_path)
    store.append(make())
    with open(store.path, "a") as file:
        file.write('{"schema_version": 99}\n')
    with pytest.raises(BenchError, match=r"records\.jsonl, line 2: schema version 99"):
        store.records()


def test_an_unresolved_merge_names_file_and_line(tmp_path):
    store = ResultStore(tmp_path)
    store.append(make())
    with open(store.path, "a") as file:
        file.write("<<<<<<< HEAD\n")
    with pytest.raises(BenchError, match=r"records.jsonl, line 2: a conflict of a git merge"):
        store.records()


def test_only_a_records_file_may_be_named_as_results(tmp_path):
    ResultStore(tmp_path).append(make())
    (tmp_path / "leaderboard.md").write_text("a table")
    assert len(load_results(tmp_path / "records.jsonl")) == 1
    with pytest.raises(BenchError, match=r"leaderboard.md' is no results"):
        load_results(tmp_path / "leaderboard.md")


def test_one_writer_at_a_time(tmp_path):
    with ResultStore(tmp_path).lock(), pytest.raises(BenchError, match="another run"), ResultStore(tmp_path).lock():
        pass
    with ResultStore(tmp_path).lock():
        pass


def test_kill_in_the_middle_of_writing_leaves_whole_lines(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests'); from tests.test_store import make, ResultStore; from pathlib import Path\n"
        f"store = ResultStore(Path({str(tmp_path)!r}))\n"
        "for i in range(10**6): store.append(make(trial=f't{i}', seed=i))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=os.getcwd())
    store = ResultStore(tmp_path)
    deadline = time.monotonic() + 60
    while (not store.path.exists() or store.path.stat().st_size < 20_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    records = store.records()
    assert len(records) > 10
    assert [record.seed for record in records] == list(range(len(records)))
    store.append(make(trial="after"))
    assert store.records()[-1].trial == "after"


FULL = """
import resource, sys
from pathlib import Path
from bench import cli
from bench.store import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # like a full disk: files can be made, bytes cannot be written
cli.app = lambda **options: write_atomically(Path("table.md"), b"x" * 100)
cli.main()
"""
BROKEN = """
from bench import cli
cli.app = lambda **options: 1 / 0
cli.main()
"""


def test_a_full_disk_is_a_sentence_and_a_defect_is_no_regression(tmp_path):
    def run(program):
        return subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    full = run(FULL)
    assert full.returncode == 2, full.stderr
    assert full.stderr.startswith("bench: 'table.md': File too large; give another path")
    assert full.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    broken = run(BROKEN)
    assert broken.returncode == 70
    assert "ZeroDivisionError" in broken.stderr


def test_tidy_frame(tmp_path):
    store = ResultStore(tmp_path / "s")
    store.append(make(trial="a", seed=0, value=3.0))
    store.append(make(trial="b", seed=1, status="diverged"))
    frame = bench.load_results(tmp_path)
    expected = {"model", "dataset", "seed", "metric", "value", "low", "high", "unit", "n", "trial", "environment"}
    assert expected <= set(frame.columns)
    row = frame[frame.metric == "kid"].iloc[0]
    assert (row.model, row.seed, row.value, row.low, row.high, row.n) == ("vae", 0, 3.0, 2.0, 4.0, 5)
    assert list(frame[frame.status == "diverged"].reason) == ["it broke"]
    with pytest.raises(BenchError, match="no records"):
        load_results(tmp_path / "nowhere")


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "table.md"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.md"]
