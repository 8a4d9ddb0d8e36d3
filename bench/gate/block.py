"""Blocks: versions of the code timed in turn, each in a fresh process of its own. ``python -P block.py``.

A script, run by path, that imports torch but nothing of bench, then answers each spec on standard input with what one block found.
For a block it forks a process, which forks one an arm (an arm with another Python is started anew). Each puts its version's code
first on its path. So torch is imported once, all versions are measured by the very same lines, and the arms of a block start from
the very same memory layout, which scatter() draws anew for each block. The processes work in turns of milliseconds, in
an order drawn anew for each round: what else happens on the machine hits all arms alike. The difference of two arms is the median
over rounds of their log-ratios.

Of a version it uses the model and data classes, ``bench.training.loop.Batches`` and ``bench.sampling.draw_batch``. A spec and its
answer are one line of JSON: ``values`` (arm -> cell -> metric), ``ratios`` (arm -> cell -> metric, log of the value against the first arm), ``failed``
(arm -> cell -> reason), ``unbuilt`` (arm -> cell -> reason: those that failed before anything ran) and ``sources`` (arm -> module ->
file and digest), or ``ended``: the code with which its process ended.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

WARMUP_CALLS, WARMUP_SECONDS = 3, 0.05
TURN_SECONDS = 0.003
"""A turn repeats the work until it lasts about that long: much longer than a reading of the clock, and short enough to fall
between the interruptions of a busy machine, so that the median over many rounds does not see them."""
LEAST_ROUNDS, MOST_ROUNDS = 5, 100
PRELOADED = ("numpy", "scipy.special", "pydantic", "PIL.Image")
PHASES = {
    "train": ("training_throughput", "peak_memory_training"),
    "sample": ("sampling_throughput", "peak_memory_sampling"),
}


class ArmError(Exception):
    """What went wrong in an arm's process, as it said it."""


class Arm:
    """The process of one version, seen from outside: ``ask`` sends one request and waits for its answer."""

    def __init__(self, name: str, read: IO[str], write: IO[str]) -> None:
        self.name, self._read, self._write = name, read, write

    def ask(self, what: str, **more: Any) -> Any:
        try:
            self._write.write(json.dumps({"do": what, **more}) + "\n")
            self._write.flush()
            answer = json.loads(self._read.readline() or '{"error": "its process died"}')
        except BrokenPipeError:
            answer = {"error": "its process died"}
        if "error" in answer:
            raise ArmError(answer["error"])
        return answer["is"]


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models print must not mix with the answers
    preload()
    for line in sys.stdin:
        child = in_a_fork(lambda: measure(json.loads(line), out))  # noqa: B023 (called before the next line is read)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print(json.dumps({"ended": code}), file=out, flush=True)


def measure(spec: dict[str, Any], out: IO[str]) -> None:
    """One block, from its spec to the answer on ``out``."""
    if spec["cores"]:
        os.sched_setaffinity(0, spec["cores"])  # all arms on the same cores: a neighbour must not slow one of them only
    order = random.Random(spec["seed"])
    held = scatter(order)
    arms = [start(arm, spec) for arm in spec["arms"]]
    found: dict[str, Any] = {key: {arm.name: {} for arm in arms} for key in ("values", "ratios", "failed", "unbuilt")}
    for cell in spec["cells"]:
        time_cell(cell, arms, spec, order, found)
    found["sources"] = {arm.name: arm.ask("sources") for arm in arms}
    print(json.dumps(found), file=out, flush=True)
    del held


def time_cell(
    cell: dict[str, Any], arms: list[Arm], spec: dict[str, Any], order: random.Random, found: dict[str, Any]
) -> None:
    """Both phases of one (data set, model). An arm that fails drops out of this cell."""
    name, alive = cell["name"], list(arms)

    def each(what: str, **more: Any) -> dict[str, Any]:
        answers = {}
        for arm in order.sample(alive, len(alive)):
            try:
                answers[arm.name] = arm.ask(what, **more)
            except ArmError as error:
                found["failed"][arm.name][name] = str(error)
                alive.remove(arm)
        return answers

    each("build", cell=cell)
    for arm, reasons in found["failed"].items():
        found["unbuilt"][arm] |= {name: reasons[name]} if name in reasons else {}
    for phase, (rate, peak) in PHASES.items():
        if not {rate, peak} & set(spec["metrics"]) or not alive:
            continue
        calls = [seconds for seconds in each(phase).values() if seconds is not None]
        if not calls:
            continue  # a model that does not train
        if rate in spec["metrics"]:
            laps = rounds(each, arms, min(calls), spec["seconds"])
            items = cell["batch_size" if phase == "train" else "sample_batch"]
            note(found, name, rate, {arm: [items / lap for lap in times] for arm, times in laps.items()}, arms[0].name)
        if peak in spec["metrics"]:
            note(found, name, peak, {arm: [mib] for arm, mib in each("peak").items()}, arms[0].name)


def rounds(each: Any, arms: list[Arm], call: float, seconds: float) -> dict[str, list[float]]:
    """Seconds of a call in each round, of the arms that stayed alive to the end."""
    count = max(1, round(TURN_SECONDS / call))
    wanted = round(seconds / (call * count * len(arms)))
    laps = [each("turn", count=count) for _ in range(min(MOST_ROUNDS, max(LEAST_ROUNDS, wanted)))]
    return {name: [lap[name] for lap in laps] for name in laps[-1]}


def note(found: dict[str, Any], cell: str, metric: str, series: dict[str, list[float]], first: str) -> None:
    """Write down the medians, and the median log-ratio to the first arm."""
    for arm, values in series.items():
        found["values"][arm].setdefault(cell, {})[metric] = statistics.median(values)
        if first in series and arm != first:
            ratios = [math.log(value / base) for value, base in zip(values, series[first])]
            found["ratios"][arm].setdefault(cell, {})[metric] = statistics.median(ratios)


# --- processes


def preload() -> None:
    import torch

    for name in PRELOADED:
        importlib.import_module(name)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer imports torch's compiler: two seconds
    gc.collect()
    gc.freeze()  # collections in the processes forked from here need not walk through torch


def scatter(order: random.Random) -> list[bytearray]:
    """Memory of random sizes, small and large: what is allocated while it is held lies elsewhere than in the block before."""
    return [bytearray(order.randrange(4096)) for _ in range(256)] + [
        bytearray(order.randrange(2**21)) for _ in range(8)
    ]


def in_a_fork(work: Callable[[], None]) -> int:
    """The id of a new process that does ``work`` and ends with code 0, or 1 where it raises."""
    sys.stderr.flush()
    if child := os.fork():
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def start(arm: dict[str, Any], spec: dict[str, Any]) -> Arm:
    """A fresh process for an arm: forked where the arm has this Python, else started."""
    if arm["python"] != sys.executable:
        process = subprocess.Popen(
            [arm["python"], "-P", __file__, "--arm", json.dumps(arm), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        return Arm(arm["name"], process.stdout, process.stdin)
    (ask_read, ask_write), (tell_read, tell_write) = os.pipe(), os.pipe()

    def inside() -> None:
        os.close(ask_write)
        os.close(tell_read)
        serve(arm, spec, os.fdopen(ask_read), os.fdopen(tell_write, "w"))

    in_a_fork(inside)
    os.close(ask_read)
    os.close(tell_write)
    return Arm(arm["name"], os.fdopen(tell_read), os.fdopen(ask_write, "w"))


def serve(arm: dict[str, Any], spec: dict[str, Any], requests: IO[str], answers: IO[str]) -> None:
    """The inside of an arm's process: answer requests until there are none."""
    import torch

    sys.path[:0] = arm["paths"]
    torch.set_num_threads(spec["threads"])
    worker = Worker(torch, spec)
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"is": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """One version's models, timed inside its process. Each method answers one kind of request."""

    def __init__(self, torch: Any, spec: dict[str, Any]) -> None:
        self.torch, self.spec, self.device = torch, spec, torch.device(spec["device"])
        self.work: Any = None
        self.data: dict[str, Any] = {}

    def build(self, cell: dict[str, Any]) -> None:
        from bench.training.loop import Batches

        self.cell = cell
        source = json.dumps([cell["dataset_target"], cell["dataset_options"]])
        if source not in self.data:
            self.data[source] = load(cell["dataset_target"])(**cell["dataset_options"]).load()
        data = self.data[source]
        self.torch.manual_seed(cell["seed"])
        self.model = load(cell["model_target"])(data.space, **cell["model_config"]).to(self.device)
        self.batches = Batches(data, cell["batch_size"], cell["seed"], self.device)

    def train(self) -> float | None:
        """Warm up training; seconds of a step, None where the model does not train."""
        if not self.model.trains:
            return None
        stream = iter(self.batches)
        self.model.train()
        self.work = lambda: self.model.train_step(next(stream), 0.5)
        return self.warm_up()

    def sample(self) -> float:
        """Fit what sampling needs and warm it up; seconds of a batch."""
        from bench.sampling import draw_batch
        from bench.training.loop import OnePass

        self.model.eval()
        if hasattr(self.model, "fit_prior"):
            with self.torch.no_grad():
                self.model.fit_prior(OnePass(self.batches))
        self.work = self.torch.inference_mode()(lambda: draw_batch(self.model, self.cell["sample_batch"], 1))
        return self.warm_up()

    def warm_up(self) -> float:
        gc.enable()
        gc.collect()
        self.reset_peak()
        spent, calls, one = 0.0, 0, 0.0
        while calls < WARMUP_CALLS or spent < WARMUP_SECONDS:
            one = self.turn(1)
            spent, calls = spent + one, calls + 1
        gc.collect()
        gc.freeze()
        gc.disable()
        return one

    def turn(self, count: int) -> float:
        """Mean seconds of ``count`` calls."""
        began = time.perf_counter()
        for _ in range(count):
            self.work()
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)
        return (time.perf_counter() - began) / count

    def reset_peak(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: VmHWM back to the present size

    def peak(self) -> float:
        """MiB allocated on CUDA, resident in the whole process on a CPU."""
        if self.device.type == "cuda":
            return self.torch.cuda.max_memory_allocated(self.device) / 2**20
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    def sources(self) -> dict[str, list[str]]:
        """module -> [file, SHA-256] of everything imported from the packages that are measured."""
        packages, found = {name.partition(".")[0] for name in self.spec["packages"]}, {}
        for name, module in sorted(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name.partition(".")[0] in packages and file and file.endswith(".py"):
                found[name] = [file, hashlib.sha256(Path(file).read_bytes()).hexdigest()]
        return found


def load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--arm"]:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        preload()
        serve(json.loads(sys.argv[2]), json.loads(sys.argv[3]), sys.stdin, answers)
    else:
        main()
