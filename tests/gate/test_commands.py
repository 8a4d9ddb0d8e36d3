"""What a user types: compare, gate and history on real files and real commits, in processes without torch."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import bench

from .records import commit, trained, write

KID, SPEED = "kid_effnetlite0", "sampling_throughput"
CONFIG = """
[suites.ci]
datasets = ["digits"]
models = ["vae"]
budget = { steps = 300 }
metrics = ["kernel"]
[gate]
suite = "ci"
[[gate.metrics]]
metric = "kid_effnetlite0"
margin = "10%"
direction = "lower"
"""


def run(folder, *words, code=0, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words], cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    return done


def values(mean, seed, n=5):
    return list(mean * np.exp(np.random.default_rng(seed).normal(0, 0.03, n)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Fourteen commits of records; from the eighth on, KID is twice as large and sampling half as fast."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "benchmarks.toml").write_text(CONFIG)
    for i in range(14):
        (folder / "results" / "ci" / "records.jsonl").unlink(missing_ok=True)
        factor = 2 if i >= 7 else 1
        write(folder / "results", trained("vae", KID, values(0.2 * factor, i)))
        speed = trained("gan", SPEED, values(100 / factor, i))
        write(folder / "results", speed)
        commit(folder, f"change {i}")
    return folder


def test_compare_folders_files_revisions_and_models(repository):
    for a, b in (
        ("HEAD~9", "HEAD"),
        ("HEAD~9:results/ci", "results"),
        ("HEAD~9", "results/ci/records.jsonl"),
        ("HEAD~9@vae", "results@vae"),
    ):
        assert "worse" in run(repository, "compare", a, b, "--metrics", KID).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare", "nowhere", "results"), "neither a results folder, a records file nor a git revision"),
        (("compare", "results@va", "results"), "did you mean 'vae'"),
        (("compare", "HEAD:benchmarks", "results"), "holds no records.jsonl"),
        (("compare", "results", "results", "--margin", "x"), "a margin reads '5%'"),
        (("gate", "--results", "elsewhere"), "no results at 'elsewhere'"),
        (("gate", "--ab", "benchmarks.toml"), "not a file that"),
        (("ab", "HEAD", "--metrics", "speed"), "blocks do not measure 'speed'"),
        (("ab", "HEAD", "--margin", "0.5"), "must be a share such as 5%"),
        (("ab", "HEAD", "--suite", "cj"), "no suite 'cj'"),
        (("rank", "--worst", "nois"), "--worst: no baseline here is called 'nois'"),
        (("scaling", "vae", "--batches", "8,x"), "--batches takes whole numbers"),
        (("variance", "elsewhere"), "no records.jsonl under 'elsewhere'"),
        (("variance", "--models", "va"), "did you mean 'vae'"),
        (("history", "--metric", "kid"), "no record here has measured 'kid'"),
        (("history", "--results", "elsewhere"), "no commit holds records"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(repository, words, says):
    stderr = run(repository, *words, code=2).stderr
    assert says in stderr
    assert stderr.count("\n") == 1


def test_gate_writes_everything_and_its_exit_code_says_what(repository, tmp_path):
    files = {name: str(tmp_path / name) for name in ("junit", "markdown", "json", "badge")}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    summary = tmp_path / "summary.md"
    done = run(
        repository, "gate", "--baseline", "HEAD~9", "--github", *options, code=1, GITHUB_STEP_SUMMARY=str(summary)
    )
    assert "::error title=worse%3A digits16/vae kid_effnetlite0::" in done.stdout
    assert summary.read_text() == (tmp_path / "markdown").read_text()
    assert json.loads((tmp_path / "json").read_text())["exit_code"] == 1
    assert json.loads((tmp_path / "badge").read_text())["message"] == "regression"
    assert run(repository, "gate", "--baseline", "HEAD").returncode == 0


def test_gate_takes_the_verdicts_of_ab(repository, tmp_path):
    from bench.report.verdicts import Line, Verdicts

    slow = Verdicts("ab", "a", "b", 0.01, (Line("digits16/vae", "sampling_throughput", "worse", "slower"),))
    (tmp_path / "ab.json").write_text(slow.to_json())
    assert "sampling_throughput" in run(repository, "gate", "--ab", str(tmp_path / "ab.json"), code=1).stdout


def test_a_file_of_ab_that_says_nothing_or_speaks_of_other_code_is_no_pass(repository, tmp_path):
    from bench.report.verdicts import Line, Verdicts

    def gated(verdicts, code, **changes):
        (tmp_path / "ab.json").write_text(json.dumps({**json.loads(verdicts.to_json()), **changes}))
        done = run(repository, "gate", "--ab", str(tmp_path / "ab.json"), code=code)
        return done.stdout + done.stderr

    line = Line("digits16/vae", "sampling_throughput", "equivalent", "as fast")
    assert "compared nothing" in gated(Verdicts("ab", "a", "b", 0.01, ()), 2)
    assert "not of `bench ab`" in gated(Verdicts("gate", "a", "b", 0.01, (line,)), 2)
    other = Verdicts("ab", "main (0123456789)", "HEAD (9876543210)", 0.01, (line,))
    assert "timed for main (0123456789)" in gated(other, 4)
    unknown = json.loads(other.to_json())["lines"][0] | {"verdict": "splendid"}
    assert "not a file that" in gated(other, 2, lines=[unknown])


def test_records_are_not_held_against_themselves(repository):
    for baseline in ("results", "results/ci", "results/ci/records.jsonl"):
        assert "the very records that are judged" in run(repository, "gate", "--baseline", baseline, code=2).stderr
    assert "nothing was run anew" in run(repository, "gate", "--baseline", "HEAD").stdout


def test_a_measurement_counts_once_in_a_history_however_many_commits_it_is_in(tmp_path):
    """Two runs of one suite, and six commits that change the records of another."""
    (tmp_path / "benchmarks.toml").write_text(CONFIG)
    for i in range(6):
        (tmp_path / "results" / "ci" / "records.jsonl").unlink(missing_ok=True)
        write(tmp_path / "results", trained("vae", KID, values(0.2 if i < 3 else 0.4, i // 3)))
        write(tmp_path / "results", trained("vae", KID, values(0.2, i), suite="other"))
        commit(tmp_path, f"change {i}")
    out = run(tmp_path, "history").stdout
    assert "1 of 2 series have fewer than 6 measurements" in out
    assert "worse" not in out


def test_history_finds_the_commit_and_the_direction(repository):
    out = run(repository, "history").stdout
    changed = [line for line in out.splitlines() if line.startswith(("worse", "better"))]
    assert len(changed) == 2
    assert all(line.startswith("worse") and "change 7" in line for line in changed)
    assert "no change of level" in run(repository, "history", "--metric", KID, "--revision", "HEAD~5").stdout


def test_history_as_asv_results_is_published_with_its_regressions(repository, tmp_path):
    run(repository, "history", "--asv", str(tmp_path / "asv"))
    done = subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--config", str(tmp_path / "asv" / "asv.conf.json")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads((tmp_path / "asv" / "html" / "regressions.json").read_text())["regressions"]
    assert {entry[0] for entry in found} == {
        "ci.digits16.vae.kid_effnetlite0",
        "ci.digits16.gan.sampling_throughput_inverse",
    }
    assert (tmp_path / "asv" / "html" / "index.html").is_file()


def test_compare_from_python_and_no_torch(repository, monkeypatch):
    monkeypatch.chdir(repository)
    frame = bench.compare("HEAD~9", "results", metrics=[KID])
    assert list(frame.verdict) == ["worse"]
    assert frame.change_low[0] > 0.5
    for words in (("compare", "HEAD~9", "results"), ("gate",), ("history",)):
        script = (
            "import sys; sys.argv = ['bench', *sys.argv[1:]]\nfrom bench.cli import main\n"
            "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
