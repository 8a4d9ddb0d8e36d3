"""Training throughput on several processes, started through torchrun: one a device, or several on the cores of a CPU.

``python -m torch.distributed.run ... -m bench.execute.torchrun SETUP.json OUT.json`` is what each process runs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import provenance
from bench.errors import BenchError
from bench.measure.blocks import NEVER_SETTLED, is_tight, joined, rate, settled_at
from bench.record import Measurement
from bench.scaling import Setup

FIRST_STEPS, BLOCK_SECONDS, WARMUP_CAP, CAP_SECONDS = 3, 0.1, 2.0, 4.0
TIMEOUT, GRACE = 300.0, 20.0
_ERROR = re.compile(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception)\b.*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Images/s of all processes together, each training on its own batch (weak scaling)."""

    processes: int
    throughput: Measurement


def check_processes(device: str, counts: Sequence[int]) -> None:
    """BenchError where a number of processes is more than there are cores here, or devices on CUDA."""
    available = provenance.usable_cores() if device == "cpu" else provenance.cuda_devices()
    if not all(1 <= count <= available for count in counts):
        raise BenchError(
            f"--processes takes numbers up to the {available} {'cores' if device == 'cpu' else 'devices'} here"
        )


def measure_processes(setup: Setup, processes: int, most: int | None = None) -> Parallel:
    """Start ``processes`` through torchrun and time their training. BenchError where they fail, with the first error that they wrote.

    most: of the numbers of processes that are compared; each process has the threads that this many leave it, so that one process is
    not given the cores of several.
    """
    check_processes(setup.device, [processes])
    with tempfile.TemporaryDirectory() as folder:
        request, out = Path(folder) / "setup.json", Path(folder) / "out.json"
        request.write_text(json.dumps(dataclasses.asdict(setup)))
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, provenance.usable_cores() // (most or processes)))}
        if sys.platform == "linux":
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        command += [f"--nproc-per-node={processes}", "-m", "bench.execute.torchrun", str(request), str(out)]
        code, stderr = _ended(command, environment, processes)
        if code or not out.is_file():
            errors = _ERROR.findall(stderr) or ["no message"]
            raise BenchError(f"torchrun with {processes} processes failed: {errors[0].strip()}")
        found = json.loads(out.read_text())
    return Parallel(
        processes, rate("training_throughput", found["blocks"], setup.batch * processes, note=found["note"])
    )


def _ended(command: list[str], environment: dict[str, str], processes: int) -> tuple[int, str]:
    """Exit code and standard error of torchrun. It is asked to end, not killed, so that it ends its workers."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=pipe, text=True) as agent:
        try:
            _, stderr = agent.communicate(timeout=TIMEOUT)
            return agent.returncode, stderr
        except subprocess.TimeoutExpired:
            raise BenchError(f"torchrun with {processes} processes did not end within {TIMEOUT:g} s") from None
        finally:
            if agent.poll() is None:
                agent.terminate()
                try:
                    agent.communicate(timeout=GRACE)
                except subprocess.TimeoutExpired:
                    agent.kill()


def main(request: Path, out: Path) -> None:
    """One process: train on its own random batch, in step with the others; process 0 writes seconds a step by block, and a note."""
    import torch
    import torch.distributed as dist

    from bench.measure import machine
    from bench.measure.clock import quiet_garbage, synchronise
    from bench.measure.parallel import make_data_parallel

    setup = Setup(**json.loads(request.read_text()))
    rank = int(os.environ["RANK"])
    if setup.device != "cpu":
        setup = dataclasses.replace(setup, device=f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(setup.device)
    dist.init_process_group("gloo" if setup.device == "cpu" else "nccl")
    model = setup.build().train()
    make_data_parallel(model)
    torch.manual_seed(rank)
    batch = setup.images(model)
    device = torch.device(setup.device)

    def steps(count: int) -> float:
        synchronise(device)
        dist.barrier()
        began = time.perf_counter()
        for _ in range(count):
            model.train_step(batch, 0.5)
        synchronise(device)
        return (time.perf_counter() - began) / count

    def agreed(number: int) -> int:
        shared = torch.tensor(number, device=device)
        dist.broadcast(shared, 0)
        return int(shared)

    dist.barrier()
    watch, began = machine.Watch(device), time.process_time()
    with quiet_garbage():
        blocks, settled = time_together(steps, agreed)
    own = time.process_time() - began
    used = torch.tensor(own, dtype=torch.float64, device=device)
    dist.all_reduce(used)
    if rank == 0:
        seen = watch.stop(float(used) - own)
        seen.pop("foreign_processes", None)  # the process that started torchrun may be among them
        warning = machine.warning(seen)
        out.write_text(json.dumps({"blocks": blocks, "note": joined(warning, None if settled else NEVER_SETTLED)}))
    dist.destroy_process_group()


def time_together(steps: Callable[[int], float], agreed: Callable[[int], int]) -> tuple[list[float], bool]:
    """(seconds a step by block after the warm-up, did the warm-up settle?) by the rule of ``bench.measure.blocks.time_blocks``.

    steps: takes so many steps together with the other processes; seconds a step. agreed: the number that process 0 gave; all take as
    many steps and blocks, or they would wait for each other for ever.
    """
    began = time.perf_counter()
    first = [steps(1) for _ in range(FIRST_STEPS)]
    many = agreed(max(1, math.ceil(BLOCK_SECONDS / max(min(first), 1e-9))))
    warm = first if many == 1 else []
    while agreed(settled_at(warm) is None and time.perf_counter() - began < WARMUP_CAP):
        warm.append(steps(many))
    blocks: list[float] = []
    began = time.perf_counter()
    while agreed(len(blocks) < 2 or (not is_tight(blocks) and time.perf_counter() - began < CAP_SECONDS)):
        blocks.append(steps(many))
    return blocks, settled_at(warm) is not None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
