"""Exponents are those of the law; data-parallel training is training on the batches together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.execute.torchrun import measure_processes
from bench.measure.scaling import exponent
from bench.scaling import Setup, exponents, measure_axis, save_scaling

FLOW = Setup(
    "reference_models.flow_matching:FlowMatching",
    {"width": 8, "multipliers": [1], "attention": [], "patch": 1, "steps": 2},
    "cpu",
    batch=4,
)
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
    points = measure_axis(FLOW, "resolution", [16, 8], cap_seconds=0.05, on_value=said.append)
    assert said == ["resolution 8", "resolution 16"]
    fits = exponents(points)
    assert 1.8 < fits["training FLOPs an image"].value <= 2
    assert all(float(point.training) > 0 and float(point.sampling) > 0 for point in points)
    content = json.loads(save_scaling("flow", FLOW, points, [], tmp_path).read_text())
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
alone = Two(VectorSpace(3))
torch.manual_seed(rank)
model = Two(VectorSpace(3))
if rank == 0:
    model.load_state_dict(alone.state_dict())  # the others begin with weights of their own
make_data_parallel(model)
for x in data:
    model.train_step(Batch(x.chunk(world)[rank]), 0.0)
    alone.train_step(Batch(x), 0.0)
torch.save([[p.detach() for p in m.parameters()] for m in (alone, model)], f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    """Weights after four steps: two gloo processes with half a batch each against one model with all of it."""
    (tmp_path / "averaged.py").write_text(AVERAGED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in (0, 1):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, str(tmp_path / "averaged.py"), str(tmp_path)]
        processes.append(subprocess.Popen(command, env=gloo() | place))
    assert [process.wait(100) for process in processes] == [0, 0]
    for rank in (0, 1):
        alone, parallel = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for one, two in zip(alone, parallel):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def gloo():
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
