"""The unit of execution, an idempotent command: ``python -m bench.execute.worker TRIAL.json OUT/``.

It runs the trial into OUT/ and exits with 0 when OUT/record.json holds its record, whatever the trial's status; every executor
only decides where this command runs. Progress goes to standard output, one JSON object a line; everything the model
prints goes to standard error.

``--serve PID`` is the same command kept warm for many trials on one machine: it imports torch and decodes the data once, then
forks for each request on standard input. Each trial still has a process of its own, which may crash, leak or be killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bench.errors import BenchError
from bench.measure.lock import device_lock
from bench.plan import Trial

Emit = Callable[[dict[str, Any]], None]
LONGEST_EVENT = 3500  # a pipe write below 4096 bytes is atomic, so that two processes never mix their lines
EVENT_INTERVAL = 0.1
WAITING = {"event": "phase", "phase": "waiting: another trial runs on this device"}


def main(arguments: list[str]) -> int:
    events = _take_over_stdout()
    if len(arguments) == 2 and arguments[0] == "--serve":
        _die_with(int(arguments[1]))
        return serve(events)
    if len(arguments) != 2:
        print("usage: python -m bench.execute.worker TRIAL.json OUT/", file=sys.stderr)
        return 2
    try:
        trial, emit = read_trial(Path(arguments[0])), _emitter(events)
        with device_lock(trial.device, lambda: emit(WAITING)):
            execute(trial, Path(arguments[1]), emit)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def read_trial(path: Path) -> Trial:
    """The trial in a JSON file; BenchError where it holds none."""
    try:
        return Trial.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot read the trial in '{path}': {str(error).splitlines()[0]}") from None


def execute(trial: Trial, out: Path, emit: Emit) -> None:
    """Run one trial in this process."""
    from bench.trial import run_trial

    make_importable(trial)
    run_trial(trial, out, emit)


def serve(events: TextIO) -> int:
    """Fork a process for each ``{"trial": path, "out": path}`` line on standard input, one after the other."""
    emit = _emitter(events)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            trial = read_trial(Path(request["trial"]))
            _warm(trial)
            _check_untouched(trial)
            with device_lock(trial.device, lambda: emit(WAITING)):
                _fork(trial, Path(request["out"]), events, emit)
        except BenchError as error:
            emit({"event": "exit", "code": 2, "reason": str(error)})
    return 0


def _fork(trial: Trial, out: Path, events: TextIO, emit: Emit) -> None:
    """Run the trial in a process of its own and wait for its end."""
    events.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        os._exit(_in_child(trial, out, events))
    emit({"event": "started", "pid": child})
    _, status, usage = os.wait4(child, 0)
    emit({"event": "exit", "code": os.waitstatus_to_exitcode(status), "peak_mib": usage.ru_maxrss / 1024})


def _in_child(trial: Trial, out: Path, events: TextIO) -> int:
    sys.stdin.close()
    out.mkdir(parents=True, exist_ok=True)
    log = os.open(out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        execute(trial, out, _emitter(events))
        return 0
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _warm(trial: Trial) -> None:
    """Import what the trial needs and decode its data before the fork. Starts no thread pool and touches no device."""
    import torch

    import bench.trial  # noqa: F401
    from bench import plan, registry

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer imports torch's compiler: two seconds

    make_importable(trial)
    registry.load(trial.model_target)
    for part in (*trial.metrics, *trial.extractors):
        registry.load(part.target)
    plan.load_data(trial.dataset_target, trial.dataset_options)


def _check_untouched(trial: Trial) -> None:
    """BenchError where importing the trial's parts started CUDA: a process that is forked from here could not use it."""
    import torch

    if torch.cuda.is_initialized():
        raise BenchError(
            f"importing what {trial} needs put something on a CUDA device, which keeps trials from using it; "
            "create tensors when a model or data set is made, not when its module is imported"
        )


def make_importable(trial: Trial) -> None:
    """Let classes that the config names be found beside it."""
    if trial.search_path and trial.search_path not in sys.path:
        sys.path.insert(0, trial.search_path)


def _take_over_stdout() -> TextIO:
    """Keep the real standard output for events and send everything printed to standard error."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return events


def _emitter(events: TextIO) -> Emit:
    """Writes events; those that only count at most every EVENT_INTERVAL seconds. Ends the process when nobody reads any more."""
    last = 0.0

    def emit(event: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if event.get("event") in ("progress", "images") and now - last < EVENT_INTERVAL:
            return
        last = now
        text = json.dumps(event)
        if len(text) > LONGEST_EVENT:
            text = json.dumps({k: (v[:500] if isinstance(v, str) else v) for k, v in event.items() if k != "losses"})
        try:
            events.write(text + "\n")
            events.flush()
        except BrokenPipeError:
            os._exit(1)

    return emit


def _die_with(parent: int) -> None:
    """Linux: be killed when the process ``parent`` dies, so that ``kill -9`` of a run leaves no trial behind."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
