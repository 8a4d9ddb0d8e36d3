"""Exponents are those of the law; data-parallel training is training on the batches together."""

import dataclasses
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bench import provenance
from bench.commands.machine import scaling
from bench.errors import BenchError
from bench.execute import torchrun
from bench.execute.torchrun import Parallel, measure_processes
from bench.measure import machine
from bench.measure.parallel import GradientAverage, buckets_of
from bench.measure.scaling import exponent
from bench.model import GenerativeModel
from bench.record import Measurement
from bench.scaling import Setup, Timed, exponents, measure_axis, save_scaling

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


class Large(GenerativeModel):
    """Needs more memory than there is above 8 pixels a side."""

    def train_step(self, batch, progress):
        if self.space.height > 8:
            raise MemoryError
        return {"loss": 0.0}

    def sample(self, n, generator, **options):
        return generator.randn(*self.space.shape)


def test_a_size_that_cannot_be_timed_is_named_and_costs_no_other():
    said, failed = [], []
    large = dataclasses.replace(FLOW, target=f"{__name__}:Large", config={})
    points = measure_axis(
        large, "resolution", [8, 16], cap_seconds=0.05, on_value=said.append, on_failure=failed.append
    )
    assert [point.value for point in points] == [8]
    assert failed == ["the model cannot be timed at resolution 16: MemoryError"]
    with pytest.raises(BenchError, match="cannot be timed at resolution 16"):
        measure_axis(large, "resolution", [16], cap_seconds=0.05, on_value=said.append)


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
        self.c, self.steps = torch.nn.Linear(3, 1), 0
        self.first = torch.optim.SGD([*self.a.parameters(), *self.c.parameters()], 0.1)
        self.second = torch.optim.SGD(self.b.parameters(), 0.1, momentum=0.9)
    def train_step(self, batch, progress):
        # two backward passes before a step, clipping, layers that most passes leave out
        for optimizer in (self.first, self.second):
            optimizer.zero_grad()
            self.b(self.a(batch.x).tanh()).square().mean().backward()
            self.b(self.a(batch.x + 1)).exp().mean().backward()
            if self.steps == 2:
                self.c(batch.x).square().mean().backward()
            torch.nn.utils.clip_grad_norm_([*self.a.parameters(), *self.b.parameters()], 0.5)
            optimizer.step()
        self.steps += 1
        return {}
    def sample(self, n, generator): ...
torch.set_default_dtype(torch.float64)
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
class Net(GenerativeModel):
    spaces = (VectorSpace,)
    def __init__(self, space, wrap):
        super().__init__(space)
        self.net = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(6)))
        self.optimizer = torch.optim.Adam(self.net.parameters(), 0.01)
        self.forward_of = torch.nn.parallel.DistributedDataParallel(self.net) if wrap else self.net
    def train_step(self, batch, progress):
        self.optimizer.zero_grad()
        self.forward_of(batch.x).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 0.1)
        self.optimizer.step()
        return {}
    def sample(self, n, generator): ...
torch.manual_seed(1)
ours, theirs = Net(VectorSpace(3), False), Net(VectorSpace(3), True)
theirs.net.load_state_dict(ours.net.state_dict())
make_data_parallel(ours)
for x in data:
    for one in (ours, theirs):
        one.train_step(Batch(x.chunk(world)[rank]), 0.0)
pairs = [(alone, model), (theirs.net, ours.net)]
torch.save([[[p.detach() for p in m.parameters()] for m in pair] for pair in pairs], f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    """Weights after four steps: two gloo processes with half a batch each, against one model with all of it and against torch's own
    DistributedDataParallel, which needs a model of one network."""
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
        for expected, found in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            for one, two in zip(expected, found, strict=True):
                torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-7)


@pytest.fixture
def one_process_group(tmp_path, monkeypatch):
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_gradients_travel_while_the_backward_pass_goes_on(one_process_group, monkeypatch):
    """Six layers of 64 KiB in buckets of 128: all but the last bucket are sent before the first layer's gradient is there."""
    events = []
    send = dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", lambda flat, **more: events.append(flat.numel()) or send(flat, **more))
    layers = [torch.nn.Linear(128, 128, bias=False) for _ in range(6)]
    layers[0].weight.register_post_accumulate_grad_hook(lambda _: events.append("first layer"))
    GradientAverage([layer.weight for layer in layers], bucket_mib=0.125)
    for _ in range(2):
        events.clear()
        torch.nn.Sequential(*layers)(torch.randn(4, 128)).square().mean().backward()
        assert events == [2 * 128**2, 2 * 128**2, "first layer", 2 * 128**2]
    layers[3].requires_grad_(False)
    for expected in (
        [2 * 128**2, "first layer", 2 * 128**2, 2 * 128**2],
        [2 * 128**2, 2 * 128**2, "first layer", 2 * 128**2],
    ):
        events.clear()
        torch.nn.Sequential(*layers)(torch.randn(4, 128)).square().mean().backward()
        assert events == expected, "a layer that brings no gradient is waited for once, and not again"


def test_buckets_go_from_the_last_parameter_to_the_first():
    sizes = [2**18] * 3 + [7 * 2**20] + [10]
    parameters = [torch.nn.Parameter(torch.empty(size)) for size in sizes]
    assert [[p.numel() for p in bucket] for bucket in buckets_of(parameters)] == [[10], [7 * 2**20], [2**18] * 3]
    mixed = [torch.nn.Parameter(torch.empty(2)), torch.nn.Parameter(torch.empty(2, dtype=torch.float64))]
    assert len(buckets_of(mixed)) == 2, "one message has one type"


def gloo():
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {**os.environ, **loopback, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.skipif(provenance.usable_cores() < 2, reason="two processes want two cores")
def test_throughput_of_two_processes_is_measured():
    found = measure_processes(VAE, 2)
    assert found.processes == 2
    assert found.throughput > 0
    assert found.throughput.n >= 2
    assert found.throughput.low is None or found.throughput.low <= found.throughput <= found.throughput.high
    with pytest.raises(BenchError, match="--processes"):
        measure_processes(VAE, 10_000)


class Alone(GenerativeModel):
    """Trains in one process and fails under torchrun."""

    steps = 0

    def train_step(self, batch, progress):
        if "RANK" in os.environ:
            raise RuntimeError("no company")
        Alone.steps += 1
        return {"loss": 0.0}

    def sample(self, n, generator, **options):
        return generator.randn(*self.space.shape)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """`bench scaling` of ``Alone``, called with the number of processes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    config = tmp_path / "benchmarks.toml"
    config.write_text(f'suites = {{}}\n[models.alone]\nclass = "{__name__}:Alone"\n')
    Alone.steps = 0
    return functools.partial(
        scaling, "alone", batches="1,2", device="cpu", config=config, results=tmp_path, resolution=4, processes="1"
    )


def test_too_many_processes_are_refused_before_anything_is_timed(alone, tmp_path):
    with pytest.raises(BenchError, match="--processes takes numbers up to"):
        alone(processes="1,10000")
    assert Alone.steps == 0
    assert not (tmp_path / "scaling").exists()


def test_processes_that_fail_cost_nothing_that_was_measured_before(alone, tmp_path, capsys):
    with pytest.raises(BenchError, match="torchrun with 1 processes failed: RuntimeError: no company"):
        alone()
    content = json.loads((tmp_path / "scaling" / "alone.json").read_text())
    assert [point["value"] for point in content["points"]] == [1, 2]
    assert set(content["exponents"]["batch"]) == {"training", "sampling"}, "no power law of zero FLOPs"
    said = capsys.readouterr().out
    assert "alone by batch" in said
    assert "training FLOPs an image not fitted (zero)" in " ".join(said.split())


def timed(axis, value):
    speed = Measurement(10.0 * value, name="training_throughput", note=machine.BUSY)
    return Timed(axis, value, speed, speed, 5.0)


def test_a_later_call_adds_its_axes_to_the_file(tmp_path):
    def save(setup, points, parallel=()):
        content = json.loads(save_scaling("flow", setup, points, parallel, tmp_path).read_text())
        places = [(point["axis"], point["value"]) for point in content["points"]]
        return places, set(content["exponents"]), [entry["processes"] for entry in content["processes"]]

    resolutions, one = [timed("resolution", 8), timed("resolution", 16)], Parallel(1, timed("batch", 1).training)
    assert save(FLOW, resolutions, [one]) == ([("resolution", 8), ("resolution", 16)], {"resolution"}, [1])
    places = [("resolution", 8), ("resolution", 16), ("batch", 4)]
    assert save(FLOW, [timed("batch", 4)]) == (places, {"resolution"}, [1])
    assert save(FLOW, [timed("resolution", 32)]) == ([("batch", 4), ("resolution", 32)], set(), [1])
    other = dataclasses.replace(FLOW, batch=FLOW.batch + 1)
    assert save(other, resolutions) == ([("resolution", 8), ("resolution", 16)], {"resolution"}, [])


def test_speeds_beside_other_work_carry_a_note(monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(machine, "_cpu_jiffies", lambda: (look := 10**6 * next(looks), 0, look))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    [point] = measure_axis(VAE, "batch", [4], cap_seconds=0.05, on_value=lambda _: None)
    assert all(speed.note.startswith(machine.BUSY) for speed in (point.training, point.sampling))


def test_processes_of_one_training_are_not_foreign_to_each_other(monkeypatch):
    clock = types.SimpleNamespace(now=0.0, own=0.0)
    monkeypatch.setattr(
        machine, "time", types.SimpleNamespace(monotonic=lambda: clock.now, process_time=lambda: clock.own)
    )
    monkeypatch.setattr(machine, "_cpu_jiffies", lambda: (round(400 * clock.now), 0, round(800 * clock.now)))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    watch = machine.Watch(
        torch.device("cpu")
    )  # four of eight cores are busy: this process, two partners and a stranger
    clock.now, clock.own = 10.0, 10.0
    assert watch.stop()["foreign_load"] == pytest.approx(3 / 8)
    assert watch.stop(partners_seconds=20.0)["foreign_load"] == pytest.approx(1 / 8)


def test_process_0_decides_when_all_have_warmed_up_and_measured_enough(monkeypatch):
    monkeypatch.setattr(torchrun, "WARMUP_CAP", 0.01)
    monkeypatch.setattr(torchrun, "CAP_SECONDS", 0.01)

    def process(seconds, agreed):
        taken = []
        return torchrun.time_together(lambda count: taken.append(count) or next(seconds), agreed), taken

    decided = []
    costs = itertools.chain([0.5, 0.2, 0.05, 0.09, 0.07], itertools.repeat(0.06))
    (blocks, settled), taken = process(costs, lambda number: decided.append(number) or number)
    assert taken == [1, 1, 1] + [2] * (2 + 3 + 6), "until three agree, then until the median is known"
    assert (blocks, settled) == ([0.06] * 6, True)
    followed = iter(decided)
    restless = itertools.cycle([0.01, 0.02])
    assert process(restless, lambda _: next(followed))[1] == taken
    (blocks, settled), _ = process(itertools.cycle([0.05, 0.1]), lambda number: number)
    assert not settled, "the cap ended the warm-up"
    assert len(blocks) >= 2


def test_efficiency_is_per_process_with_all_that_both_intervals_allow():
    from bench.report.scaling import efficiency_text

    one = Parallel(1, Measurement(100.0, name="training_throughput", low=90.0, high=110.0))
    four = Parallel(4, Measurement(320.0, name="training_throughput", low=300.0, high=340.0))
    assert efficiency_text(one, one) == "100%"
    assert efficiency_text(one, four) == "80% [68%, 94%]"
