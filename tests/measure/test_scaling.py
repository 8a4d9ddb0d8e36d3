"""Exponents are those of the law; data-parallel training is training on the batches together."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.execute.torchrun import measure_processes
from bench.measure.scaling import exponent
from bench.scaling import Setup, exponents, measure_axis, save_scaling

VAE = Setup("reference_models.vae:VAE", {"width": 8, "latent": 4}, "cpu", resolution=8, batch=4)


def test_the_exponent_of_a_power_law():
    x = [8, 16, 32, 64]
    exact = exponent(x, [3 * v**-2.0 for v in x])
    assert exact.value == pytest.approx(-2)
    assert exact.high - exact.low < 1e-6
    two = exponent([1, 2], [1, 8])
    assert two.value == pytest.approx(3)
    assert two.bounds is None
    for bad in ([4], [4, 4]):
        with pytest.raises(BenchError, match="two different sizes"):
            exponent(bad, [1.0] * len(bad))


def test_its_interval_covers():
    rng = np.random.default_rng(0)
    x = np.array([8, 12, 16, 24, 32])
    hits = 0
    for _ in range(1000):
        fit = exponent(x, 5 * x**-1.5 * rng.lognormal(0, 0.1, x.size))
        hits += fit.low <= -1.5 <= fit.high
    assert hits / 1000 == pytest.approx(0.95, abs=0.025)


def test_flops_of_a_convolutional_model_grow_with_the_square_of_the_side(tmp_path):
    said = []
    points = measure_axis(VAE, "resolution", [16, 8], cap_seconds=0.05, on_value=said.append)
    assert said == ["resolution 8", "resolution 16"]
    fits = exponents(points)
    assert 1.5 < fits["training FLOPs an image"].value < 2.1
    assert all(float(point.training) > 0 and float(point.sampling) > 0 for point in points)
    content = json.loads(save_scaling("vae", VAE, points, [], tmp_path).read_text())
    assert [point["value"] for point in content["points"]] == [8, 16]
    assert set(content["exponents"]) == {"resolution"}
    with pytest.raises(BenchError, match="no option 'width'"):
        measure_axis(Setup("reference_models.baselines:Noise", {}, "cpu"), "width", [8])


AVERAGED = """
import os, sys, json
import torch, torch.distributed as dist
from bench.measure.parallel import make_data_parallel
from bench.model import Batch, GenerativeModel, VectorSpace
class Two(GenerativeModel):
    spaces = (VectorSpace,)
    def __init__(self, space):
        super().__init__(space)
        self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
        self.first = torch.optim.SGD(self.a.parameters(), 0.1)
        self.second = torch.optim.SGD(self.b.parameters(), 0.1, momentum=0.9)
    def train_step(self, batch, progress):
        for optimizer in (self.first, self.second):
            optimizer.zero_grad()
            self.b(self.a(batch.x).tanh()).square().mean().backward()
            optimizer.step()
        return {}
    def sample(self, n, generator): ...
torch.manual_seed(0)
data = torch.randn(4, 8, 3)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(rank)  # other weights in every process, until process 0 gives its own to all
model = Two(VectorSpace(3))
make_data_parallel(model)
for x in data:
    model.train_step(Batch(x.chunk(world)[rank]), 0.0)
if rank == 0:
    torch.save([p.detach() for p in model.parameters()], sys.argv[1])
dist.destroy_process_group()
"""


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    """Weights after four steps: two gloo processes with half a batch each against one process with all of it."""
    (tmp_path / "averaged.py").write_text(AVERAGED)
    weights = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.pt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        command += [f"--nproc-per-node={processes}", str(tmp_path / "averaged.py"), str(out)]
        done = subprocess.run(command, env=gloo(), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        weights.append(torch.load(out, weights_only=True))
    for one, two in zip(*weights):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def gloo():
    import os
    from pathlib import Path

    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {**os.environ, **loopback, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def test_throughput_of_two_processes_is_measured():
    found = measure_processes(VAE, 2)
    assert found.processes == 2
    assert found.throughput > 0
    assert found.throughput.n == 12
    assert found.throughput.low <= found.throughput <= found.throughput.high
    with pytest.raises(BenchError, match="--processes"):
        measure_processes(VAE, 10_000)
