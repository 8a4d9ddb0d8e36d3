"""A machine compared with itself; and one device, one trial."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.measure import lock, noise
from bench.measure.doctor import abilities, facts, timer
from bench.measure.lock import FOLDER_VARIABLE, device_lock, lock_file, physical_device
from bench.pytest_plugin import BenchTrial

CPU = torch.device("cpu")


def test_a_and_a_overlap():
    """The whole measurement of 100 pairs on a small piece of work in short blocks; `bench noise` takes longer ones."""
    x = torch.randn(96, 96)
    found = noise.measure_noise(CPU, pairs=100, work=lambda: x @ x, block_seconds=0.001)
    assert found.pairs == 100
    assert found.overlaps >= 93
    assert found.overlap.low <= found.overlaps / 100 <= found.overlap.high
    assert found.spread >= 0
    assert np.median(np.abs(found.differences)) < 0.5


def test_b_slower_than_a_is_not_called_noise():
    """The same statistics do separate two versions that differ by a factor of 1.5, so overlapping is no accident."""
    from bench.stats.intervals import median_interval

    rng = np.random.default_rng(0)
    apart = 0
    for _ in range(200):
        a, b = (median_interval(rng.lognormal(np.log(scale), 0.03, 10)) for scale in (1.0, 1.5))
        apart += a.high < b.low
    assert apart >= 190


def test_noise_is_kept_one_entry_a_machine(tmp_path):
    first = noise.Noise("cpu", "abc", "2026-01-01", 10, 0.001, [0.01, -0.02, 0.0], 3)
    again = noise.Noise("cpu", "abc", "2026-01-02", 10, 0.001, [0.03, -0.01], 2)
    other = noise.Noise("cpu", "xyz", "2026-01-02", 10, 0.001, [0.03, -0.01], 2)
    for entry in (first, other, again):
        noise.save_noise(entry, tmp_path)
    assert noise.load_noise(tmp_path) == [other, again]
    assert first.spread == pytest.approx(1.4826 * 0.01)
    assert noise.load_noise(tmp_path / "nowhere") == []
    (tmp_path / noise.FILE).write_text("[{}]")
    with pytest.raises(BenchError, match="bench noise"):
        noise.load_noise(tmp_path)
    with pytest.raises(BenchError, match="2 pairs"):
        noise.measure_noise(CPU, 1)


def test_the_doctor_says_what_cannot_be_measured_and_why():
    found = {ability.quantity: ability for ability in abilities(CPU)}
    assert found["time"].measured
    assert found["FLOPs"].measured
    assert found["pinned cores"].measured == hasattr(os, "sched_getaffinity")
    assert not found["MFU"].measured
    assert all(ability.how for ability in found.values())
    assert torch.__version__.split("+")[0] in facts(CPU)["versions"]
    step, cost = timer()
    assert 0 < step < 1e-4
    assert 0 < cost < 1e-4


HOLD = """
import sys, time
from pathlib import Path
from bench.measure.lock import device_lock
log = Path(sys.argv[1])
with device_lock("cpu"):
    with log.open("a") as file: file.write(f"in {time.monotonic()}\\n")
    time.sleep(0.3)
    with log.open("a") as file: file.write(f"out {time.monotonic()}\\n")
"""


def test_two_processes_take_turns(tmp_path):
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path / "locks")}
    log = tmp_path / "log"
    others = [subprocess.Popen([sys.executable, "-c", HOLD, str(log)], env=environment) for _ in range(2)]
    assert [other.wait(60) for other in others] == [0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [what for what, _ in lines] == ["in", "out", "in", "out"]
    times = [float(at) for _, at in lines]
    assert times == sorted(times)


CONFIG = """
[suites.SUITE]
datasets = ["digits8"]
models = ["slow"]
baselines = []
seeds = [0]
budget = { steps = 20 }
samples = 4
extractor = "none"
metrics = ["sliced-wasserstein"]
[datasets.digits8]
dataset = "digits"
options = { resolution = 8 }
[models.slow]
class = "slow:Slow"
"""
MODEL = '''
import time
from pathlib import Path
import torch
from bench import GenerativeModel
class Slow(GenerativeModel):
    """Writes down when it trains."""
    def train_step(self, batch, progress):
        time.sleep(0.03)
        with Path("log").open("a") as file: file.write(f"{Path.cwd().name} {time.monotonic()}\\n")
        return {"loss": torch.zeros(())}
    def sample(self, n, generator, **options):
        return generator.rand(*self.space.shape) * 2 - 1
'''


def test_trials_of_two_runs_never_run_at_once(tmp_path):
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path / "locks"), "OMP_NUM_THREADS": "1"}
    runs = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "benchmarks.toml").write_text(CONFIG.replace("SUITE", name))
        (folder / "slow.py").write_text(MODEL)
        command = [sys.executable, "-m", "bench.cli", "run", name, "--models", "slow"]
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        runs.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL))
    with device_lock_in(tmp_path / "locks"):
        time.sleep(2)  # both runs are up and wait for the device
        assert not any((tmp_path / name / "log").exists() for name in ("one", "two"))
    assert [run.wait(120) for run in runs] == [0, 0]
    steps = sorted(
        (float(line.split()[1]), name)
        for name in ("one", "two")
        for line in (tmp_path / name / "log").read_text().splitlines()
    )
    order = [name for _, name in steps]
    assert len(order) >= 2 * 20
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes == 1, "one trial trains to its end before the other begins"


class device_lock_in:
    """device_lock("cpu") in another folder than this process's own environment says."""

    def __init__(self, folder):
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv(FOLDER_VARIABLE, str(folder))
        self._lock = device_lock("cpu")

    def __enter__(self):
        self._lock.__enter__()

    def __exit__(self, *failure):
        self._lock.__exit__(*failure)
        self._patch.undo()


def test_number_and_uuid_name_one_device(monkeypatch, tmp_path):
    """The driver's files tell the UUIDs in the order of the bus; one process says 1, another GPU-b."""
    for bus, uuid in (("0000:65:00.0", "GPU-bbb2-11"), ("0000:17:00.0", "GPU-aaa1-11")):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        (tmp_path / "gpus" / bus / "information").write_text(
            f"Model: \t NVIDIA H100\nGPU UUID: \t {uuid}\nDevice Minor: \t 0\n"
        )
    monkeypatch.setattr(lock, "DRIVER", tmp_path / "gpus")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [physical_device(f"cuda:{number}") for number in (0, 1)] == ["cuda-GPU-aaa1-11", "cuda-GPU-bbb2-11"]
    for visible in ("1", "GPU-bbb2-11", "GPU-b"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert physical_device("cuda") == "cuda-GPU-bbb2-11"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c")
    assert physical_device("cuda") == "cuda-MIG-c"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with lock.device_locks(
        ["cuda", "cuda:0", "cuda:1"]
    ):  # the first two are one device, whose lock must not wait for itself
        assert len(list((tmp_path / "locks").iterdir())) == 2


def test_a_device_keeps_its_lock_whatever_its_number(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(lock, "DRIVER", tmp_path / "nothing")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    assert physical_device("cuda") == "cuda-3"
    assert physical_device("cuda:1") == "cuda-GPU-ab"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert lock_file("cuda:1") == tmp_path / "gen-bench-cuda-1.lock"
    monkeypatch.setenv(FOLDER_VARIABLE, "/proc/nowhere")
    with pytest.raises(BenchError, match=FOLDER_VARIABLE), device_lock("cpu"):
        pass


def test_a_trial_waits_for_the_device(tmp_path):
    """Another process holds the processor for half a second."""
    hold = "import time; from bench.measure.lock import device_lock\nwith device_lock('cpu'): print('held', flush=True); time.sleep(0.5)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        BenchTrial(tmp_path, tmp_path, False)("noise", seeds=[0], samples=40)
        assert other.poll() is not None, "it ran beside another trial"
