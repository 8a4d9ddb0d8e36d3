"""What can be measured on this machine, what cannot, and why."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from bench import provenance
from bench.measure import machine, nvml
from bench.measure.clock import Marks
from bench.measure.cores import allowed_cores
from bench.measure.energy import EnergyMeter
from bench.measure.memory import can_reset_peak
from bench.measure.peaks import peak_flops
from bench.prices import Price, price_of


class Ability(NamedTuple):
    """measured: can the quantity be measured here? how: by what; or why not, and what would help."""

    quantity: str
    measured: bool
    how: str


def device_name(device: torch.device) -> str:
    """The name by which price and peak tables know the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.cpu_model()


def facts(device: torch.device) -> dict[str, str]:
    """Label -> text: device, threads and versions."""
    hardware, threads = provenance.hardware(str(device)), machine.threads()
    found = {
        "device": device_name(device),
        "processor": f"{hardware['cpu']}, {_cores(hardware['cores'])}{_of_all(hardware['cores'])}, {hardware['memory_gib']} GiB of memory",
        "threads": f"{threads['intra_op']} within an operator, {threads['inter_op']} between operators"
        + (", bound to cores" if threads["bound"] else ", moved by the system"),
        "load": f"{machine.Watch(device).stop().get('load_average', '?')} processes on average over a minute",
        "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
    }
    if device.type == "cuda":
        found["CUDA"] = f"{torch.version.cuda}, driver {nvml.driver() or 'unknown'}"
    return found


def abilities(device: torch.device, prices: Sequence[Price] = ()) -> list[Ability]:
    """Every quantity that a run may report, and whether it can here. prices: of the config."""
    cuda = device.type == "cuda"
    resolution, cost = timer()
    meter = EnergyMeter(device)
    watch = machine.Watch(device)
    time.sleep(0.3)
    seen = watch.stop()
    peak, cores = peak_flops(device_name(device), "float32"), allowed_cores()
    price = price_of(prices, device_name(device))
    return [
        Ability(
            "time",
            True,
            ("CUDA events, " if cuda else "") + f"perf_counter in steps of {resolution * 1e9:.0f} ns, {cost * 1e9:.0f} ns a reading",
        ),
        Ability(
            "pinned cores",
            cores is not None,
            f"trials keep to {min(len(cores), torch.get_num_threads() + cuda)} of {_cores(len(cores))}" if cores else "this system cannot pin a process",
        ),
        Ability("FLOPs", True, "counted operator by operator; coverage and operators without a formula are in the record"),
        Ability(
            "MFU",
            peak is not None,
            f"peak {peak / 1e12:g} TFLOP/s in float32" if peak else "the table of device peaks does not have this device",
        ),
        Ability(
            "peak memory of a phase",
            cuda or can_reset_peak(),
            "CUDA allocator" if cuda else "VmHWM" if can_reset_peak() else "this system cannot reset a process's peak",
        ),
        Ability(
            "energy", meter.source is not None, (meter.why_not() or "").removeprefix("not measured: ") or f"{meter.source} counter"
        ),
        Ability(
            "money",
            price is not None,
            f"{price.per_hour:g} {price.currency} an hour, {price.describe(datetime.date.today())}" if price else "no row of [[prices]] in the config has this device's name",
        ),
        Ability(
            "foreign load",
            "foreign_load" in seen,
            f"{seen['foreign_load']:.0%} of all cores now{_busy(seen)}" if "foreign_load" in seen else "/proc/stat cannot be read",
        ),
        Ability(
            "clocks",
            "cpu_mhz" in seen or "sm_mhz" in seen,
            f"{seen['sm_mhz']} MHz" if "sm_mhz" in seen else f"{seen['cpu_mhz'][1]} MHz" if "cpu_mhz" in seen else "not told here",
        ),
        Ability(
            "throttling",
            "throttle_reasons" in seen,
            ", ".join(seen.get("throttle_reasons", [])) or "none now" if "throttle_reasons" in seen else "told by NVML on CUDA only",
        ),
    ]  # fmt: skip


def _cores(count: int) -> str:
    return f"{count} core{'' if count == 1 else 's'}"


def _of_all(usable: int) -> str:
    """How many cores there are besides those that this process may use."""
    everything = os.cpu_count() or usable
    return f" of {everything} usable by this process" if everything > usable else ""


def _busy(seen: dict[str, Any]) -> str:
    return ", other work is running: speeds measured now carry a note" if machine.warning(seen) else ""


def timer(readings: int = 20_000) -> tuple[float, float]:
    """(smallest step of the host clock, cost of one mark), in seconds."""
    marks = Marks(torch.device("cpu"))
    began = time.perf_counter()
    for _ in range(readings):
        marks.mark()
    cost = (time.perf_counter() - began) / readings
    steps = [step for step in marks.seconds() if step > 0]
    return min(steps), cost
