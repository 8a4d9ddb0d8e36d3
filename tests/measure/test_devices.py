"""CUDA, NVML and RAPL paths, with fakes at the driver's calls only: events, counters and files."""

import os
import time
import types

import numpy as np
import pytest
import torch

from bench.costs import host_clock_ratio, training_costs
from bench.data.base import Data
from bench.measure import energy, machine, nvml
from bench.measure.blocks import CLOCKS_DIFFER, time_blocks
from bench.measure.clock import Marks, time_once
from bench.measure.energy import EnergyMeter, energy_measurements
from bench.measure.memory import PeakMemory
from bench.measure.peaks import arithmetic, peak_flops, table, utilisation
from bench.measure.phase import PhaseMeters
from bench.model import GenerativeModel, VectorSpace
from bench.record import Measurement
from bench.training.batches import Batches
from bench.training.loop import train

CUDA = torch.device("cuda", 0)


class Driver:
    """A device whose stream runs on its own clock: work takes ``cost`` seconds there, and next to nothing on the host."""

    def __init__(self):
        self.now = 0.0
        self.synchronisations = 0
        self.millijoules = 1_000_000
        self.reasons = 0
        self.pid_memory = 300 * 2**20
        self.streams = set()
        self.violations = {0: 0, 1: 0}
        self.pid = os.getpid()
        self.others = [1]
        self.known = {b"GPU-abc": "handle"}

    def run(self, seconds):
        self.now += seconds

    def event(self, enable_timing):
        assert enable_timing
        driver = self

        class Event:
            def record(self, stream):
                driver.streams.add(stream)
                self.at = driver.now

            def synchronize(self):
                driver.synchronisations += 1

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e3  # milliseconds

        return Event()

    def synchronize(self, device=None):
        self.synchronisations += 1


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(torch.cuda, "Event", driver.event)
    monkeypatch.setattr(torch.cuda, "synchronize", driver.synchronize)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="abc"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    library = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: driver.known[uuid],
        nvmlDeviceGetViolationStatus=lambda handle, policy: types.SimpleNamespace(
            violationTime=driver.violations[policy]
        ),
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: driver.millijoules,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [
            types.SimpleNamespace(pid=driver.pid, usedGpuMemory=driver.pid_memory),
            *(types.SimpleNamespace(pid=other, usedGpuMemory=2**20) for other in driver.others),
        ],
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: driver.reasons,
        nvmlDeviceGetClockInfo=lambda handle, kind: {1: 1980, 2: 2619}[kind],
        nvmlDeviceGetTemperature=lambda handle, sensor: 55,
        nvmlSystemGetDriverVersion=lambda: "570.1",
    )
    monkeypatch.setattr(nvml, "_library", lambda: library)
    nvml._handle.cache_clear()
    yield driver
    nvml._handle.cache_clear()


def test_events_time_the_stream_and_one_synchronisation_ends_a_block(driver):
    marks = Marks(CUDA)
    for cost in (0.5, 0.25):
        marks.mark()
        driver.run(cost)
    marks.mark()
    assert driver.synchronisations == 0
    assert marks.seconds() == pytest.approx([0.5, 0.25])
    assert driver.synchronisations == 1
    assert driver.streams == {"stream of cuda:0"}, "not that of whatever device is the current one"
    assert time_once(lambda: driver.run(0.3), CUDA) == pytest.approx(0.3)


def test_a_block_of_many_laps_synchronises_at_its_ends_only(driver):
    timing = time_blocks(lambda: driver.run(0.001), CUDA, cap_seconds=5)
    assert timing.blocks == pytest.approx([0.001] * 6)
    assert len(timing.laps) == 6 * 20
    blocks = 2 + timing.warmup_blocks + len(timing.blocks)  # two single calls say how long a block is
    assert driver.synchronisations == 2 * blocks


def test_the_warm_up_is_not_measured(driver):
    costs = iter([0.05, 0.04, 0.03, 0.025])
    timing = time_blocks(lambda: driver.run(next(costs, 0.021)), CUDA, warmup_cap=5, cap_seconds=5)
    assert timing.warmup_blocks == 4 + 3
    assert timing.settled
    assert timing.laps == pytest.approx([0.021] * len(timing.laps))


def test_a_host_clock_that_disagrees_is_said(driver):
    timing = time_blocks(lambda: driver.run(0.001), CUDA, cap_seconds=5)  # the host saw almost none of it
    assert timing.host_ratio < 0.95
    assert timing.note == CLOCKS_DIFFER


class OnDevice(GenerativeModel):
    """A model that says it is on CUDA; a step takes so many seconds of the device's time and of the host's."""

    spaces = (VectorSpace,)

    def __init__(self, driver, device_seconds, host_seconds):
        super().__init__(VectorSpace(2))
        self.driver, self.device_seconds, self.host_seconds = driver, device_seconds, host_seconds

    @property
    def device(self):
        return CUDA

    def train_step(self, batch, progress):
        self.driver.run(self.device_seconds)
        end = time.perf_counter() + self.host_seconds
        while time.perf_counter() < end:
            pass
        return {"loss": torch.zeros(())}

    def sample(self, n, generator, **options): ...


@pytest.mark.parametrize(("device_seconds", "host_seconds"), [(0.02, 0.04), (2.0, 0.0)])
def test_training_times_the_stream_and_checks_it_against_the_host(driver, monkeypatch, device_seconds, host_seconds):
    """Events time every step; a host clock that saw twice of that, or next to nothing, is said with the speed."""
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    x = np.zeros((16, 2), np.float32)
    batches = Batches(Data("line", VectorSpace(2), x, x), 8, 0, torch.device("cpu"))
    result = train(OnDevice(driver, device_seconds, host_seconds), batches, "steps", 23)
    assert result.lap_seconds == pytest.approx([device_seconds] * 20)
    assert driver.synchronisations <= 4 + 3 * len(result.block_seconds), "once a block, not once a step"
    ratio = host_clock_ratio(result)
    assert ratio > 1.9 if host_seconds else ratio < 0.9
    assert training_costs(result, 8)[0].note.startswith(CLOCKS_DIFFER)


def test_energy_is_the_counter_over_the_window(driver):
    meter = EnergyMeter(CUDA)
    assert meter.source == "nvml"
    assert meter.why_not() is None
    meter.start()
    driver.millijoules += 7_500
    joules, _ = meter.stop()
    assert joules == pytest.approx(7.5)
    found = {m.name: m for m in energy_measurements("training", (600.0, 3.0), 1000, 50.0)}
    assert found["training_energy_per_image"] == pytest.approx(0.6)
    assert found["training_energy_per_image"].unit == "J/image"
    assert found["training_mean_power"] == pytest.approx(200)
    assert found["training_energy_per_image_above_idle"] == pytest.approx(0.45)
    assert found["training_mean_power"].note is None
    assert energy_measurements("sampling", (600.0, 0.3), 1000, None)[0].note == energy.TOO_SHORT


def test_absent_counters_are_not_measured():
    meter = EnergyMeter(torch.device("cpu"), rapl=energy.Path("/nowhere"))
    meter.start()
    assert meter.stop() is None
    assert meter.idle_watts() is None
    assert meter.why_not().startswith("not measured")
    assert energy_measurements("training", None, 10, None) == []


def test_rapl_sums_packages_and_survives_the_wrap(tmp_path):
    def package(number, name, joules, largest=262_143_328_850):
        domain = tmp_path / f"intel-rapl:{number}"
        domain.mkdir()
        (domain / "name").write_text(f"{name}\n")
        (domain / "energy_uj").write_text(f"{joules}\n")
        (domain / "max_energy_range_uj").write_text(f"{largest}\n")
        return domain / "energy_uj"

    first = package("0", "package-0", 5_000_000)
    second = package("1", "package-1", 9_000_000, largest=10_000_000)
    package("0:0", "core", 1)
    package("2", "psys", 1)
    meter = EnergyMeter(torch.device("cpu"), rapl=tmp_path)
    assert meter.source == "rapl"
    meter.start()
    first.write_text("8000000\n")  # 3 J more
    second.write_text("500000\n")  # wrapped: 1.5 J more
    assert meter.stop()[0] == pytest.approx(4.5)


def test_memory_of_a_phase_on_cuda(driver, monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: reset.append("cache"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 64 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 96 * 2**20)
    found = {m.name: m for m in PeakMemory(CUDA).measurements("peak")}
    assert reset == ["cache", CUDA], "what an earlier phase left in the cache would count as reserved"
    assert found == {"peak": 64, "peak_reserved": 96, "peak_process": 300}


def test_a_look_at_the_model_is_no_memory_of_training_on_cuda(monkeypatch):
    peaks = {"now": 64}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update(now=10))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks["now"] * 2**20)
    peak = PeakMemory(CUDA)
    peaks["now"] = 64
    with peak.aside():
        peaks["now"] = 500
    assert peak.peak_mib() == 64
    peaks["now"] = 70
    assert peak.peak_mib() == 70


def test_checkpoints_are_neither_memory_nor_energy_of_training_on_cuda(driver, monkeypatch):
    peaks = {"now": 10}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update(now=10))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks["now"] * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 96 * 2**20)
    meters = PhaseMeters(CUDA, "training")
    driver.millijoules += 2_000
    with meters.checkpoint():
        driver.millijoules += 50_000
        peaks["now"] = 500
    driver.millijoules += 3_000
    peaks["now"] = 80
    meters.stop()
    assert {m.name: (float(m), m.note) for m in meters.memory} == {
        "peak_memory_training": (80, None),
        "peak_memory_training_reserved": (96, None),
        "peak_memory_training_process": (300, None),
    }
    assert meters.energy(10, None)[0] == pytest.approx(0.5)


def test_the_watch_sees_clocks_throttling_and_strangers(driver):
    watch = machine.Watch(CUDA)
    driver.reasons = 0x40
    found = watch.stop()
    assert (found["sm_mhz"], found["celsius"], found["foreign_processes"]) == (1980, 55, 1)
    assert found["throttle_reasons"] == ["thermal (hardware)"]
    assert machine.warning(found) == machine.THROTTLED
    assert (found["power_limit_watts"], found["driver"]) == (700, "570.1")
    assert machine.warning(found | {"throttle_reasons": []}) == machine.SHARED


def test_clocks_held_back_during_a_phase_are_seen_after_it(driver):
    """At the end of a phase the device idles and gives no reason any more; the driver's counters remember."""
    watch = machine.Watch(CUDA)
    time.sleep(0.05)
    driver.violations = {0: 20_000_000, 1: 0}  # nanoseconds
    found = watch.stop()
    assert found["throttle_reasons"] == []
    assert 0.1 < found["throttled_share"]["power cap"] <= 0.41
    assert found["throttled_share"]["thermal"] == 0
    assert machine.warning(found) == machine.THROTTLED


@pytest.mark.parametrize(("mine", "held", "others"), [(True, 0, 1), (False, 2**20, 1), (False, 0, 2)])
def test_strangers_are_counted_in_a_container_too(driver, monkeypatch, mine, held, others):
    """There the driver knows this process by another number; who holds memory on the device is one of those it names."""
    driver.pid = os.getpid() if mine else 4_000_000
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held)
    assert nvml.foreign_processes(CUDA) == others


@pytest.mark.parametrize(
    ("mine", "held", "others", "memory"),
    [(True, 0, [1], 300), (False, 2**20, [], 300), (False, 2**20, [1], None), (False, 0, [], None)],
)
def test_memory_of_the_process_is_told_in_a_container_too(driver, monkeypatch, mine, held, others, memory):
    """Where the driver names one process alone and this one holds memory on the device, it is the one."""
    driver.pid, driver.others = os.getpid() if mine else 4_000_000, others
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held)
    assert nvml.process_memory_mib(CUDA) == memory


def test_a_part_of_a_device_has_a_handle_of_its_own(driver):
    driver.known = {b"MIG-abc": "part"}
    assert nvml._handle(CUDA) == "part"
    nvml._handle.cache_clear()
    driver.known = {b"GPU-other": "another device"}
    assert nvml._handle(CUDA) is None, "rather none than the counters of another device"
    assert nvml.clocks(CUDA) == {}


def test_foreign_load_is_seen_on_a_cpu():
    import subprocess
    import sys
    import time

    def load(busy):
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            watch = machine.Watch(torch.device("cpu"))
            time.sleep(0.6)
            return watch.stop()["foreign_load"]
        finally:
            if other:
                other.kill()
                other.wait()

    assert load(busy=True) * os.cpu_count() > 0.5, "one busy process is one core"
    assert machine.warning({"foreign_load": 0.5}) == machine.BUSY
    assert machine.warning({"foreign_load": 0.01}) is None


def test_utilisation_needs_a_peak():
    assert peak_flops("AMD EPYC", "float32") is None
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.5e12
    assert peak_flops("NVIDIA H100 PCIe", "bfloat16") == 756.5e12
    assert peak_flops("NVIDIA L40S", "bfloat16") == 362.05e12, "not that of the L4"
    assert peak_flops("NVIDIA L4", "bfloat16") == 121e12
    assert peak_flops("NVIDIA L40", "bfloat16") == 181.05e12
    for name in ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 80GB PCIe", "A100-PCIE-40GB"):
        assert peak_flops(name, "tf32") == 156e12
    for other in (
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 NVL",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ):
        assert peak_flops(other, "bfloat16") is None, "another board, or a part of one"
    assert peak_flops("Tesla V100-SXM2-16GB", "bfloat16") is None
    for row in table():
        assert "datasheet" in row["source"] or "whitepaper" in row["source"]
        assert "https://" in row["source"], "a page on which the figures were checked"
        assert row["float32"] > 0
    assert arithmetic(torch.bfloat16) == "bfloat16"
    assert arithmetic(None) == "tf32", "cuDNN may use it for convolutions unless told otherwise"
    convolution = torch.backends.cudnn.conv
    before, convolution.fp32_precision = convolution.fp32_precision, "ieee"
    try:
        assert arithmetic(None) == "float32"
    finally:
        convolution.fp32_precision = before
    speed = Measurement(100.0, name="training_throughput", low=90.0, high=110.0, n=9, interval="order statistic")
    mfu = utilisation("training_mfu", speed, flops_per_image=2e9, peak=1e12)
    assert (mfu, mfu.low, mfu.high) == pytest.approx((0.2, 0.18, 0.22))
