"""Training throughput on several processes, started through torchrun: one a device, or several on the cores of a CPU.

``python -m torch.distributed.run ... -m bench.execute.torchrun SETUP.json OUT.json`` is what each process runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import provenance
from bench.errors import BenchError
from bench.measure.blocks import rate
from bench.record import Measurement
from bench.scaling import Setup

WARMUP_STEPS, BLOCKS, BLOCK_SECONDS = 5, 12, 0.1
TIMEOUT, GRACE = 300.0, 20.0


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Images/s of all processes together, each training on its own batch (weak scaling)."""

    processes: int
    throughput: Measurement


def measure_processes(setup: Setup, processes: int, most: int | None = None) -> Parallel:
    """Start ``processes`` through torchrun and time their training. BenchError where they fail, with the last line they wrote.

    most: of the numbers of processes that are compared; each process has the threads that this many leave it, so that one process is
    not given the cores of several.
    """
    available = provenance.usable_cores() if setup.device == "cpu" else provenance.cuda_devices()
    if not 1 <= processes <= available:
        raise BenchError(
            f"--processes takes numbers up to the {available} {'cores' if setup.device == 'cpu' else 'devices'} here"
        )
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
            errors = [line for line in stderr.splitlines() if "Error" in line] or ["no message"]
            raise BenchError(f"torchrun with {processes} processes failed: {errors[0].strip()}")
        blocks = json.loads(out.read_text())
    return Parallel(processes, rate("training_throughput", blocks, setup.batch * processes))


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
    """One process: train on its own random batch, in step with the others; process 0 writes seconds a step, by block."""
    import torch
    import torch.distributed as dist

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

    with quiet_garbage():
        laps = [steps(1) for _ in range(WARMUP_STEPS)]
        many = torch.tensor(max(1, round(BLOCK_SECONDS / statistics.median(laps[1:]))), device=device)
        dist.broadcast(many, 0)  # all processes take as many steps, or they would wait for each other for ever
        blocks = [steps(int(many)) for _ in range(BLOCKS)]
    if rank == 0:
        out.write_text(json.dumps(blocks))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
