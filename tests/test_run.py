"""`bench run` end to end, in real processes: kept results, interruptions, failures, reruns, determinism."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store import ResultStore, load_results

BENCH = [sys.executable, "-m", "bench.cli"]

CONFIG = """
[suites.tiny]
datasets = ["digits8"]
models = ["autoencoder", "slow"]
baselines = ["mean", "noise"]
seeds = [0, 1]
budget = { steps = 8 }
batch_size = 32
samples = 40
sample_batch = 20
extractor = "none"
metrics = ["reconstruction"]

[suites.broken]
datasets = ["digits8"]
models = ["aborts", "diverges", "hungry", "hangs", "slow"]
baselines = []
seeds = [0]
budget = { steps = 4 }
samples = 10
extractor = "none"
metrics = ["reconstruction"]
timeout = 8

[datasets.digits8]
dataset = "digits"
options = { resolution = 8 }

[models.slow]
class = "my_models:Slow"
config = { pause = 0.02 }

[models.aborts]
class = "my_models:Aborts"

[models.diverges]
class = "my_models:Diverges"

[models.hungry]
class = "my_models:Hungry"

[models.hangs]
class = "my_models:Slow"
config = { pause = 1000.0 }
"""

METRIC = '''
from bench.metrics.base import Metric
from bench.record import Measurement

class Mine(Metric):
    """A metric of one's own."""
    needs = frozenset()
    def measure(self, evidence):
        BODY
'''

MODELS = '''
import dataclasses, os, time
import torch
from bench import GenerativeModel

class Slow(GenerativeModel):
    """A model that takes its time."""
    @dataclasses.dataclass(frozen=True)
    class Config:
        pause: float = 0.0
    def train_step(self, batch, progress):
        print("a model may print")
        time.sleep(self.config.pause)
        return {"loss": torch.tensor(1.0)}
    def sample(self, n, generator, **options):
        return generator.rand(*self.space.shape) * 2 - 1

class Aborts(Slow):
    def train_step(self, batch, progress):
        os.abort()

class Diverges(Slow):
    def train_step(self, batch, progress):
        return {"loss": torch.tensor(float("nan"))}

class Hungry(Slow):
    def train_step(self, batch, progress):
        torch.empty(2**50)
'''


@pytest.fixture
def place(tmp_path):
    """A folder with a config and models beside it."""
    (tmp_path / "benchmarks.toml").write_text(CONFIG)
    (tmp_path / "my_models.py").write_text(MODELS)
    return tmp_path


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def bench(place, *words, code=0):
    done = subprocess.run([*BENCH, *words], cwd=place, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr + done.stdout
    return done


def records(place, suite="tiny"):
    return ResultStore(place / "results" / suite).records()


def test_a_suite_runs_and_leaves_what_it_promises(place):
    done = bench(place, "run", "tiny")
    assert "autoencoder" in done.stdout
    found = records(place)
    assert len(found) == 10
    assert {record.status for record in found} == {"complete"}
    assert {record.role for record in found} == {"floor", "baseline", "trained"}
    folder = place / "results" / "tiny"
    for name in ("records.jsonl", "leaderboard.md", "leaderboard.csv"):
        assert (folder / name).stat().st_size > 0
    assert len(list(folder.glob("**/*.png"))) >= 5
    trained = next(record for record in found if record.model == "autoencoder")
    for name in (
        "training_throughput", "sampling_throughput", "time_to_first_sample", "parameters", "peak_memory_training",
        "peak_memory_sampling", "training_seconds", "training_steps", "training_images", "warmup_seconds", "prior_seconds",
    ):  # fmt: skip
        assert trained.get(name) >= 0
    assert trained.get("training_images") == 8 * 32
    assert trained.seconds["training"] > 0
    assert trained.provenance["versions"]["torch"]

    frame = load_results(place / "results")
    assert set(frame.seed) == {0, 1}
    assert frame[frame.metric == "training_steps"].value.eq(8).all()

    again = bench(place, "run", "tiny")
    assert "all 10 trials were done before" in again.stderr
    assert len(records(place)) == 10
    assert "10/10 trials done" in bench(place, "status", "tiny").stdout
    assert trained.trial[:8] in bench(place, "run", "tiny", "--dry-run").stdout
    assert "autoencoder" in bench(place, "show", trained.trial[:10]).stdout


def test_same_seed_same_samples_in_two_processes(place):
    for results in ("one", "two"):
        bench(place, "run", "tiny", "--models", "autoencoder,noise", "--results", results)
    one, two = (
        {(r.model, r.seed): r.artifacts["samples"] for r in ResultStore(place / name / "tiny").records()}
        for name in ("one", "two")
    )
    assert one == two
    assert len(set(one.values())) == 4, "other seeds and models give other samples"


def test_interrupt_and_kill_lose_no_finished_trial(place):
    def start():
        return subprocess.Popen(
            [*BENCH, "run", "tiny"], cwd=place, env=environment(), stderr=subprocess.PIPE, text=True
        )

    def wait_for(count):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if len(records(place)) >= count:
                return
            time.sleep(0.02)
        pytest.fail(f"never saw {count} records")

    run = start()
    wait_for(2)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert re.search(r"interrupted: \d+/10 trials finished and kept", errors)
    assert "Traceback" not in errors
    kept = records(place)
    assert 2 <= len(kept) < 10

    run = start()
    wait_for(len(kept) + 2)
    run.kill()
    run.communicate(timeout=30)
    kept = records(place)
    time.sleep(0.5)
    assert not _workers_of(place), "a killed run must leave no trial behind"

    bench(place, "run", "tiny")
    final = records(place)
    assert [record.trial for record in final[: len(kept)]] == [record.trial for record in kept]
    assert len(final) == len({record.trial for record in final}) == 10


def _workers_of(place):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                "bench.execute.worker" in (folder / "cmdline").read_text()
                and (folder / "cwd").resolve() == place.resolve()
            ):
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_every_failure_is_a_row(place):
    done = bench(place, "run", "broken", code=3)
    status = {record.model: record.status for record in records(place, "broken")}
    assert status == {
        "floor": "complete",
        "aborts": "killed",
        "diverges": "diverged",
        "hungry": "out-of-memory",
        "hangs": "timeout",
        "slow": "complete",
    }
    reasons = {record.model: record.reason for record in records(place, "broken")}
    assert "SIGABRT" in reasons["aborts"]
    assert "time-out of 8 s" in reasons["hangs"]
    table = (place / "results" / "broken" / "leaderboard.md").read_text()
    for model, how in status.items():
        assert model in table
        assert how == "complete" or how in table
    assert "diverged" in done.stderr


def test_a_change_reruns_exactly_what_it_concerns(place):
    bench(place, "run", "tiny", "--seeds", "0")
    before = {record.model: record for record in records(place)}

    models = place / "my_models.py"
    models.write_text(MODELS.replace("rand(*self.space.shape) * 2 - 1", "rand(*self.space.shape) * 2 - 0.9"))
    bench(place, "run", "tiny", "--seeds", "0")
    assert [record.model for record in records(place)[len(before) :]] == ["slow"]

    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = ["reconstruction", "likelihood"]', 1))
    dry = bench(place, "run", "tiny", "--seeds", "0", "--dry-run").stdout
    assert dry.count("to score again") == 5
    bench(place, "run", "tiny", "--seeds", "0")
    after = {record.model: record for record in records(place)}
    assert after["autoencoder"].artifacts == before["autoencoder"].artifacts
    assert after["autoencoder"].started == before["autoencoder"].started, "scored again, not trained again"
    assert after["autoencoder"].get("training_throughput") == before["autoencoder"].get("training_throughput")
    assert set(after["autoencoder"].scoring) == {"reconstruction", "likelihood"}

    config.write_text(CONFIG.replace("steps = 8", "steps = 9"))
    assert bench(place, "run", "tiny", "--seeds", "0", "--dry-run").stdout.count("to run") == 5


def test_retry_scores_complete_trials_again_without_training(place):
    run = ("run", "tiny", "--seeds", "0", "--models", "autoencoder")
    bench(place, *run)
    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = ["reconstruction", "likelihood"]', 1))
    bench(place, *run, "--retry")
    first, second = records(place)
    assert set(second.scoring) == {"reconstruction", "likelihood"}
    assert second.started == first.started
    assert "rescoring" in second.seconds


def test_speed_keeps_the_machine_that_it_was_measured_on_when_another_scores_again(place):
    run = ("run", "tiny", "--seeds", "0", "--models", "autoencoder")
    bench(place, *run)
    (file,) = place.glob("results/tiny/artifacts/*/record.json")
    elsewhere = {**json.loads(file.read_text()), "environment": "of another machine"}
    elsewhere["provenance"]["git"] = "of another version"
    file.write_text(json.dumps(elsewhere))
    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = ["reconstruction", "likelihood"]', 1))
    bench(place, *run)
    last = records(place)[-1]
    assert set(last.scoring) == {"reconstruction", "likelihood"}
    assert last.environment == "of another machine"
    assert last.provenance["git"] == "of another version"
    assert last.provenance["scored_on"]["git"] != "of another version"
    assert set(last.provenance["metric_seconds"]) == {"reconstruction", "likelihood"}


def test_a_failed_trial_runs_again_when_its_metrics_change(place):
    run = ("run", "broken", "--models", "diverges")
    bench(place, *run, code=3)
    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = ["reconstruction", "likelihood"]'))
    assert "to run" in bench(place, *run, "--dry-run").stdout
    bench(place, *run, code=3)
    assert set(records(place, "broken")[-1].scoring) == {"reconstruction", "likelihood"}, "the old record was taken"
    assert "done " in bench(place, *run, "--dry-run").stdout


def test_the_table_shows_what_the_config_says_now(place):
    """A change and its revert: the finished trial is shown again, not the other one; names and ranking are as declared now."""
    run = ("run", "tiny", "--seeds", "0", "--models", "autoencoder")
    config = place / "benchmarks.toml"
    for steps in (8, 9, 8):
        config.write_text(CONFIG.replace("steps = 8", f"steps = {steps}"))
        bench(place, *run)
        assert ResultStore(place / "results" / "tiny").current()[-1].budget == {"steps": steps}
    count = len(records(place))
    bench(place, *run)
    assert len(records(place)) == count, "nothing changed, nothing is written"
    config.write_text(CONFIG.replace("samples = 40", 'rank_by = "reconstruction_psnr"\nsamples = 40', 1))
    bench(place, *run)
    assert records(place)[-1].config["rank_by"] == "reconstruction_psnr"
    assert records(place)[-1].started == records(place)[0].started


def test_a_failed_scoring_costs_no_training(place):
    """Metrics that raise, then do not: the trial is scored again from its samples, and what it cost is kept."""
    (place / "my_metrics.py").write_text(METRIC.replace("BODY", "raise ValueError('no')"))
    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = ["my_metrics:Mine"]', 1))
    run = ("run", "tiny", "--seeds", "0", "--models", "autoencoder")
    bench(place, *run, code=3)
    (place / "my_metrics.py").write_text(METRIC.replace("BODY", "return [Measurement(1.0, name='mine', n=40)]"))
    assert "to score again" in bench(place, *run, "--dry-run").stdout
    bench(place, *run)
    first, second = records(place)
    assert (first.status, second.status) == ("failed", "complete")
    costs = [[m.value for m in record.measurements if m.source == "cost"] for record in (first, second)]
    assert costs[0] == costs[1] != []
    assert second.started == first.started
    assert "mine" in {m.name for m in second.measurements}


def test_paths_that_cannot_be_written_are_one_line(place):
    bench(place, "run", "tiny", "--seeds", "0", "--models", "autoencoder")
    page = place / "results" / "tiny" / "leaderboard.md"
    page.unlink()
    page.mkdir()
    assert "leaderboard.md': Is a directory" in bench(place, "report", "results", code=2).stderr


def test_wrong_calls_are_one_line(place):
    for words, expected in (
        (("run", "tyni"), "did you mean 'tiny'"),
        (("run", "tiny", "--models", "vaee"), "the suite has no model 'vaee'"),
        (("run", "tiny", "--seeds", "0,x"), "--seeds takes whole numbers"),
        (("run", "tiny", "--models", ""), "--models names no model; known: autoencoder"),
        (("run", "tiny", "--seeds", str(2**40)), "is no seed; take whole numbers from 0"),
        (("run", "tiny", "--device", "gpu"), "--device takes auto, cpu or cuda"),
        (("run", "tiny", "--config", "nowhere.toml"), "no config file at 'nowhere.toml'"),
        (("list", "model"), "did you mean 'models'"),
        (("show", "autoencodr"), "did you mean 'autoencoder'"),
        (("report", "nowhere"), "no records.jsonl under 'nowhere'"),
        (("runn",), "No such command 'runn'"),
        (("run", "tiny", "--dryrun"), "No such option"),
    ):
        done = bench(place, *words, code=2)
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr


def test_wrong_model_options_and_spaces_stop_before_training(place):
    config = place / "benchmarks.toml"
    config.write_text(CONFIG.replace("pause = 0.02", "puase = 0.02"))
    assert "no option 'puase'; did you mean 'pause'" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace("pause = 0.02", 'pause = "long"'))
    assert "option 'pause' is 'long', but it should be a valid number" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = [{ name = "prdc", k = 2.5 }]', 1))
    assert "metric 'prdc': option 'k' is 2.5" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = [{ name = "prdc", k = 0 }]', 1))
    assert "metric 'prdc': k must be at least 1, not 0" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace('metrics = ["reconstruction"]', 'metrics = [{ name = "prdc", kk = 3 }]', 1))
    assert "metric 'prdc' has no option 'kk'; did you mean" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace('extractor = "none"', 'extractor = { name = "effnetlite0", size = 3 }', 1))
    assert "extractor 'effnetlite0' has no option 'size'" in bench(place, "run", "tiny", code=2).stderr
    config.write_text(CONFIG.replace('datasets = ["digits8"]', 'datasets = ["ring8"]', 1))
    assert (
        "it generates ImageSpace, but data set 'ring8' holds 2-d vectors" in bench(place, "run", "tiny", code=2).stderr
    )
    assert not (place / "results").exists()


def test_two_runs_cannot_write_to_one_folder(place):
    store = ResultStore(place / "results" / "tiny")
    with store.lock():
        assert "another run is writing" in bench(place, "run", "tiny", code=2).stderr
