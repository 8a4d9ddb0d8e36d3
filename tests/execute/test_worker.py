"""What the warm worker may do before it forks: nothing that keeps the forked trial from using a CUDA device."""

import json
import os
import subprocess
import sys

import pytest
import torch

from bench.errors import BenchError
from bench.execute import worker
from bench.execute.local import NVML_CHECK, LocalExecutor
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads another process's environment from /proc")
def test_the_workers_torch_asks_nvml(tmp_path):
    executor = LocalExecutor()
    try:
        server = executor._serving(tmp_path / "out")
        with open(f"/proc/{server.pid}/environ") as environment:
            assert f"{NVML_CHECK}=1" in environment.read().split("\0")
    finally:
        executor.close()


def test_a_module_that_starts_cuda_when_imported_is_named(tmp_path, monkeypatch):
    trial = trials(tmp_path)[1]
    worker._check_untouched(trial)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(BenchError, match=r"digits8/vae.*when its module is imported"):
        worker._check_untouched(trial)
