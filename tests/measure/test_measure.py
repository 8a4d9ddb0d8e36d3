"""Known costs are measured as what they are."""

import subprocess
import sys
import time
import timeit

import numpy as np
import pytest
import torch

from bench.costs import sampling_costs, training_costs
from bench.data.base import Data
from bench.measure.blocks import NEVER_SETTLED, is_tight, rate, settled_at, time_blocks
from bench.measure.clock import Lap, Marks, quiet_garbage, time_once
from bench.measure.latency import percentiles, quantile_interval
from bench.model import GenerativeModel, VectorSpace
from bench.sampling import draw_batch
from bench.training.batches import Batches
from bench.training.loop import WARMUP_STEPS, train

CPU = torch.device("cpu")


def spin(seconds):
    """Busy for a known time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize("milliseconds", [0.1, 1, 10, 100, 1000])
def test_a_known_cost_is_measured_within_one_percent(milliseconds):
    """The loop writes down how long each call was, so that other work on the machine is no error of the measurement."""
    spent = []

    def work(seconds=milliseconds / 1000):
        began = time.perf_counter()
        spin(seconds)
        spent.append(time.perf_counter() - began)

    call = min(timeit.repeat(lambda: work(0), number=1000, repeat=5)) / 1000  # what calling the loop costs by itself
    timing = time_blocks(work, CPU, warmup_cap=0.1, cap_seconds=1.0)
    true = np.median(spent[-len(timing.laps) :]) + call
    assert true >= milliseconds / 1000
    assert np.median(timing.laps) == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize("milliseconds", [1, 10, 100, 1000])
def test_a_known_sleep_is_measured_within_one_percent(milliseconds):
    """Waking up and calling take microseconds by themselves, which at 0.1 ms would be a part of what is measured."""
    spent = []

    def sleep(seconds=milliseconds / 1000):
        began = time.perf_counter()
        time.sleep(seconds)
        spent.append(time.perf_counter() - began)

    timing = time_blocks(sleep, CPU, warmup_cap=0, cap_seconds=0.2)
    assert np.median(timing.laps) == pytest.approx(np.median(spent[-len(timing.laps) :]), rel=0.01)


class Known(GenerativeModel):
    """Takes a known time for every image, and writes down how long each call took."""

    spaces = (VectorSpace,)

    def __init__(self, seconds):
        super().__init__(VectorSpace(2))
        self.seconds, self.spent, self.began = seconds, [], []

    def take(self, images):
        began = time.perf_counter()
        self.began.append(began)
        time.sleep(self.seconds * images)
        self.spent.append(time.perf_counter() - began)

    def train_step(self, batch, progress):
        self.take(len(batch))
        return {"loss": torch.zeros(())}

    def sample(self, n, generator, **options):
        self.take(n)
        return torch.zeros(n, 2)


@pytest.mark.parametrize("milliseconds", [0.1, 10])
def test_a_model_of_known_cost_an_image_trains_and_samples_at_its_speed(milliseconds):
    """Through the training loop and the timing of the sampler, as a trial goes, in batches of 200 ms: as many images as a stopwatch counts
    from one call to the next. (What lies between calls is a percent or two where the system takes memory back from what is idle.)"""
    images = round(200 / milliseconds)
    x = np.zeros((4 * images, 2), np.float32)
    model = Known(milliseconds / 1000)
    result = train(model, Batches(Data("line", VectorSpace(2), x, x), images, 0, CPU), "seconds", 2.6)
    speed = training_costs(result, images)[0]
    calls = np.diff([*model.began, model.began[-1] + model.spent[-1]])
    own = np.split(calls[WARMUP_STEPS:], np.cumsum(result.block_steps))[:-1]
    blocks = [float(np.mean(block)) for block in own][-len(result.step_seconds()) :]
    assert speed.name == "training_throughput"
    assert speed == pytest.approx(images / np.median(blocks), rel=0.01)
    assert speed <= 1000 / milliseconds
    model.began.clear()
    many = time_blocks(lambda: draw_batch(model, images, 0), CPU, warmup_cap=0.1, cap_seconds=1.0)
    own = np.median(np.diff(model.began)[-len(many.laps) :])
    single = time_blocks(lambda: draw_batch(model, 1, 0), CPU, warmup_cap=0.1, cap_seconds=0.1)
    speed, latency = sampling_costs(many, images, single, None)[:2]
    assert len(many.laps) == len(many.blocks), "a block of work as slow as this is one call"
    assert speed == pytest.approx(images / own, rel=0.01)
    assert milliseconds / 1000 <= latency


def test_the_warm_up_ends_when_three_blocks_agree():
    assert settled_at([5, 2, 1.2, 1.0, 1.01, 0.995, 9]) == 6
    assert settled_at([1.0, 1.0]) is None
    assert settled_at([1, 2, 1, 2, 1, 2]) is None


def test_work_that_never_settles_says_so():
    state = np.random.default_rng(0)
    timing = time_blocks(lambda: spin(state.uniform(0.02, 0.06)), CPU, warmup_cap=0.2, cap_seconds=0.2)
    assert not timing.settled
    assert timing.note == NEVER_SETTLED
    assert rate("throughput", timing.blocks, 1, note=timing.note).note.startswith(NEVER_SETTLED)


def test_a_cold_first_call_does_not_decide_how_long_a_block_is():
    """0.3 s once (a compiler, a choice of kernels), half a millisecond from then on."""
    calls = []

    def work():
        calls.append(1)
        spin(0.3 if len(calls) == 1 else 0.0005)

    timing = time_blocks(work, CPU, warmup_cap=0.2, cap_seconds=0.2)
    assert len(timing.laps) > 5 * len(timing.blocks), "a block lasts a fiftieth of a second"
    assert max(timing.blocks) < 0.1
    assert timing.warmup_blocks > 0


def test_noise_is_said():
    rng = np.random.default_rng(0)
    noisy = rate("throughput", rng.lognormal(0, 0.5, 20), 1)
    assert noisy.note == "noisy"
    assert rate("throughput", rng.lognormal(0, 0.5, 20), 1, note="busy").note == "busy; noisy"
    assert not is_tight(list(rng.lognormal(0, 0.5, 20)), 0.02)
    few = rate("throughput", [1.0, 1.1], 1)
    assert few.low is None
    assert few.note == "too few laps for an interval"


def test_the_cap_ends_a_noisy_measurement():
    state = np.random.default_rng(0)
    began = time.perf_counter()
    timing = time_blocks(lambda: spin(state.uniform(0.02, 0.06)), CPU, warmup_cap=0.1, cap_seconds=1.0)
    assert time.perf_counter() - began < 10  # other work may run here
    assert len(timing.blocks) >= 2


def test_earlier_calls_of_slow_work_are_its_first_blocks():
    """Warm after the fourth call; the six that follow are all that is needed, so that nothing runs again."""
    calls = []
    known = [9.0, 5.0, 5.01, 5.02, *[5.0 + 0.001 * i for i in range(6)]]
    timing = time_blocks(lambda: calls.append(1), CPU, warmup_cap=5, cap_seconds=5, earlier=known)
    assert calls == []
    assert timing.settled
    assert timing.blocks == timing.laps == known[4:]
    assert timing.warmup_blocks == 4
    assert timing.note is None


def test_earlier_calls_that_never_agree_lose_their_first_quarter():
    known = [8.0, 1.0, 5.0, 2.0, 7.0, 3.0, 6.0, 4.0]
    timing = time_blocks(lambda: None, CPU, warmup_cap=0, cap_seconds=0, earlier=known)
    assert timing.blocks == known[2:]


def test_earlier_calls_of_fast_work_only_say_how_long_a_block_is():
    timing = time_blocks(lambda: spin(0.001), CPU, warmup_cap=0.5, cap_seconds=0.1, earlier=[0.001] * 9)
    assert len(timing.laps) == 20 * len(timing.blocks)
    assert min(timing.laps) >= 0.001


def test_lap_marks_and_time_once():
    began = time.perf_counter()
    lap = Lap(CPU)
    lap.start()
    spin(0.01)
    assert 0.01 <= lap.stop() <= time.perf_counter() - began
    assert time_once(lambda: spin(0.01), CPU) >= 0.01
    began = time.perf_counter()
    marks = Marks(CPU)
    for pause in (0.002, 0.004):
        marks.mark()
        spin(pause)
    marks.mark()
    first, second = marks.seconds()
    assert first >= 0.002
    assert second >= 0.004
    assert first + second <= time.perf_counter() - began
    assert marks.seconds() == [], "only the last mark is kept"


def test_no_collection_while_the_clock_runs():
    import gc

    with quiet_garbage():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_percentiles_have_the_coverage_they_claim():
    rng = np.random.default_rng(1)
    for q, n in ((0.5, 20), (0.95, 200), (0.99, 1000)):
        truth = -np.log(1 - q)
        hits = 0
        for _ in range(400):
            _, low, high = quantile_interval(rng.exponential(size=n), q)
            hits += low <= truth <= high
        assert hits / 400 >= 0.93, "at least 95 %, less the error of 400 draws"
    value, low, high = quantile_interval(rng.exponential(size=50), 0.99)
    assert low is high is None
    assert value > 0


def test_percentiles_by_name():
    found = {m.name: m for m in percentiles("latency", list(np.linspace(0.001, 1, 1000)))}
    assert list(found) == ["latency_p50", "latency_p95", "latency_p99"]
    assert found["latency_p50"] == pytest.approx(0.5, abs=0.01)
    assert found["latency_p99"].low < 0.99 < found["latency_p99"].high


def test_planted_memory_is_found():
    """64 MiB held inside a phase raise its peak by 64 MiB, in a process of its own; 256 MiB held aside do not."""
    code = """
import torch
from bench.measure.memory import PeakMemory
cpu = torch.device("cpu")
del_me = torch.ones(2**18)  # pages in the library's code
del del_me
empty = PeakMemory(cpu).measure("peak")
peak = PeakMemory(cpu)
with peak.aside():
    torch.ones(256 * 2**18)
block = torch.ones(64 * 2**18)  # 64 MiB of float32
held = peak.measure("peak")
del block
after = PeakMemory(cpu).measure("peak")
print(held - empty, after - empty)
"""
    held, after = map(float, in_own_process(code))
    assert held == pytest.approx(64, abs=4)
    assert abs(after) < 4


def test_a_leak_is_found():
    """A model that leaks 1 MiB a step over 64 steps after the first ones has grown by 64 MiB."""
    code = """
import numpy as np, torch
from bench.data.base import Data
from bench.costs import training_costs
from bench.model import GenerativeModel, VectorSpace
from bench.training.batches import Batches
from bench.training.loop import WARMUP_STEPS, train
class Leaks(GenerativeModel):
    spaces = (VectorSpace,)
    def __init__(self, space):
        super().__init__(space)
        self.kept = []
    def train_step(self, batch, progress):
        self.kept.append(torch.ones(2**18))
        return {"loss": torch.zeros(())}
    def sample(self, n, generator):
        return generator.randn(2)
x = np.zeros((64, 2), np.float32)
data = Data("line", VectorSpace(2), x, x)
result = train(Leaks(data.space), Batches(data, 8, 0, torch.device("cpu")), "steps", WARMUP_STEPS + 64)
print(next(float(m) for m in training_costs(result, 8) if m.name == "memory_growth_training"))
"""
    assert float(in_own_process(code)[0]) == pytest.approx(64, abs=4)


def in_own_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
