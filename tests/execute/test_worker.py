"""What the warm worker may do before it forks: nothing that keeps the forked trial from using a CUDA device."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.errors import BenchError
from bench.execute import worker
from bench.execute.local import NVML_CHECK, LocalExecutor, Outcome
from bench.model import GenerativeModel
from bench.plan import plan
from bench.suite import load_config

CONFIG = """
[suites.tiny]
datasets = ["digits8"]
models = ["vae", "gan", "ddpm"]
baselines = []
seeds = [0]
budget = { steps = 2 }
samples = 4
metrics = ["kernel", "prdc", "memorisation"]
[datasets.digits8]
dataset = "digits"
options = { resolution = 8 }
"""

WARM = """
import json, sys, torch
from pathlib import Path
asked = []
torch._C._cuda_getDeviceCount = lambda: asked.append(1) or 1  # the CUDA runtime, which does not survive a fork once it was asked
torch.cuda._device_count_nvml = lambda: 1  # a machine with a device and its driver
from bench.execute.worker import _warm, read_trial
for path in sys.argv[1:]:
    _warm(read_trial(Path(path)))
print(json.dumps([len(asked), torch.cuda.is_initialized()]))
"""


def trials(tmp_path):
    path = tmp_path / "benchmarks.toml"
    path.write_text(CONFIG)
    return plan(load_config(path), "tiny", device="cpu")


def test_the_worker_touches_no_device_before_it_forks(tmp_path):
    paths = []
    for trial in trials(tmp_path):
        paths.append(tmp_path / f"{trial.model}.json")
        paths[-1].write_text(trial.model_dump_json())
    environment = {**os.environ, NVML_CHECK: "1", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", WARM, *map(str, paths)], env=environment, capture_output=True, text=True, check=True
    )
    asked, initialised = json.loads(found.stdout.splitlines()[-1])
    assert asked == 0, "the CUDA runtime was asked for devices"
    assert not initialised


FIRST_OF_ITS_KIND = """
import os, subprocess, sys
assert os.getpid() == 1
worker = [sys.executable, "-m", "bench.execute.worker", "--serve", "1"]
print(subprocess.run(worker, input='{"trial": "nowhere", "out": "x"}\\n', capture_output=True, text=True).stdout)
"""


def test_a_run_may_be_the_first_process_of_a_container(tmp_path):
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a PID namespace")
    done = subprocess.run([*container, sys.executable, "-c", FIRST_OF_ITS_KIND], capture_output=True, text=True)
    assert "cannot read the trial in 'nowhere'" in done.stdout, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux to be told of the parent's death")
def test_a_worker_whose_run_has_died_ends():
    not_its_parent = str(os.getppid())
    worker = [sys.executable, "-m", "bench.execute.worker", "--serve", not_its_parent]
    assert subprocess.run(worker, stdin=subprocess.DEVNULL, timeout=60).returncode == 1


class Talks(GenerativeModel):
    """Says what it does."""

    def train_step(self, batch, progress):
        print("hello from the model")
        return {"loss": 0.0}

    def sample(self, n, generator, **options):
        return generator.randn(*self.space.shape)


def test_what_a_model_prints_stands_in_its_log(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (trial, *_) = trials(tmp_path)
    trial = trial.model_copy(update={"model_target": f"{__name__}:Talks", "model_config_": {}, "metrics": ()})
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "trial.json").write_text(trial.model_dump_json())
    with contextlib.closing(LocalExecutor()) as executor:
        executor.run(trial, tmp_path / "trial", lambda event: None)
    assert (tmp_path / "trial" / "log.txt").read_text().count("hello from the model") >= 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads another process's environment from /proc")
def test_the_workers_torch_asks_nvml(tmp_path):
    executor = LocalExecutor()
    try:
        server = executor._serving(tmp_path / "out")
        environment, patience = "", time.monotonic() + 10
        while not environment and time.monotonic() < patience:  # empty for a moment after the process was started
            environment = Path(f"/proc/{server.pid}/environ").read_text()
        assert f"{NVML_CHECK}=1" in environment.split("\0")
    finally:
        executor.close()


def test_a_module_that_starts_cuda_when_imported_is_named(tmp_path, monkeypatch):
    trial = trials(tmp_path)[1]
    worker._check_untouched(trial)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(BenchError, match=r"digits8/vae.*when its module is imported"):
        worker._check_untouched(trial)


class DiesOnce(LocalExecutor):
    """Its first workers end before they read anything, after they were found alive: as one that is killed between the two."""

    dying = 1

    def _serving(self, out):
        server = super()._serving(out)
        if self.dying:
            self.dying -= 1
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        return server

    def _follow(self, server, timeout, on_event):
        """The request is written: what the worker does with it is tested elsewhere."""
        assert server.poll() is None
        return Outcome(True)


def test_a_worker_that_dies_before_it_takes_a_trial_is_replaced(tmp_path):
    executor, trial = DiesOnce(), trials(tmp_path)[1]
    try:
        outcome = executor.run(trial, tmp_path / "out", lambda event: None)
    finally:
        executor.close()
    assert outcome == Outcome(True)


def test_workers_that_all_die_at_once_fail_the_trial_in_a_sentence(tmp_path):
    executor, trial = DiesOnce(), trials(tmp_path)[1]
    executor.dying = 100
    try:
        outcome = executor.run(trial, tmp_path / "out", lambda event: None)
    finally:
        executor.close()
    assert (outcome.ok, outcome.status) == (False, "killed")
    assert "ended as soon as it was started" in outcome.reason
