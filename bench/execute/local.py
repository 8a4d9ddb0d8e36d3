"""The local executor: one warm worker process that forks a process for each trial, one trial at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bench.plan import Trial

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Makes torch ask NVML whether there is a device. Asking the CUDA runtime before a fork would keep the forked trial from using it."""

STARTS = 3
"""Workers that are tried for one trial, where each ends before it has taken it."""

OnEvent = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the worker process ended: ``ok`` (it wrote a record) or a status and the reason."""

    ok: bool
    status: str = "complete"
    reason: str | None = None


class Executor(Protocol):
    """Decides where ``python -m bench.execute.worker TRIAL.json OUT/`` runs."""

    def run(self, trial: Trial, out: Path, on_event: OnEvent) -> Outcome: ...

    def close(self) -> None: ...


class LocalExecutor:
    """Runs trials on this machine. Each has its own process: a crash or a kill costs that trial only."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def run(self, trial: Trial, out: Path, on_event: OnEvent) -> Outcome:
        """Run one trial to its end, its time-out or its death."""
        out.mkdir(parents=True, exist_ok=True)
        request_file = out / "trial.json"
        request_file.write_text(trial.model_dump_json(indent=1))
        request = {"trial": str(request_file.resolve()), "out": str(out.resolve())}
        line = json.dumps(request).encode() + b"\n"
        # A worker that died since the last trial is noticed at the latest here; a new one takes the trial.
        server = next((server for _ in range(STARTS) if (server := self._asked(line, out))), None)
        if server is None:
            return Outcome(
                False, "killed", f"the worker ended as soon as it was started, {STARTS} times; see worker.log"
            )
        return self._follow(server, trial.timeout, on_event)

    def _asked(self, line: bytes, out: Path) -> subprocess.Popen[bytes] | None:
        """The worker that took the request; None where it ended before it could."""
        server = self._serving(out)
        assert server.stdin is not None
        try:
            server.stdin.write(line)
            server.stdin.flush()
        except BrokenPipeError:
            self.close()
            return None
        return server

    def close(self) -> None:
        """Stop the worker and whatever it runs."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            for pipe in (self._server.stdin, self._server.stdout):
                with contextlib.suppress(BrokenPipeError):  # a request that it never read
                    if pipe is not None:
                        pipe.close()
            self._server = None

    def _serving(self, out: Path) -> subprocess.Popen[bytes]:
        if self._server is None or self._server.poll() is not None:
            self._buffer = b""
            self._server = subprocess.Popen(
                [sys.executable, "-m", "bench.execute.worker", "--serve", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(out.parent / "worker.log").open("ab"),
                env={**os.environ, NVML_CHECK: "1"},
                start_new_session=True,  # Ctrl-C reaches the run alone, which then decides
            )
        return self._server

    def _follow(self, server: subprocess.Popen[bytes], timeout: float, on_event: OnEvent) -> Outcome:
        deadline: float | None = None
        timed_out = False
        child: int | None = None
        while True:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0 and child is not None and not timed_out:
                timed_out = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            line = self._line(server, 1.0 if remaining is None or timed_out else max(remaining, 0.0))
            if line is None:
                continue
            if line == b"":
                code = server.wait()
                return Outcome(False, "killed", f"the worker ended with exit code {code}; see worker.log")
            event = json.loads(line)
            if event["event"] == "started":
                child, deadline = event["pid"], time.monotonic() + timeout
            elif event["event"] == "exit":
                return _outcome(event, timed_out, timeout)
            else:
                on_event(event)

    def _line(self, server: subprocess.Popen[bytes], wait: float) -> bytes | None:
        """The next line, None if none came within ``wait`` seconds, b"" at the end of the stream."""
        assert server.stdout is not None
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(server.stdout, selectors.EVENT_READ)
                if not selector.select(min(wait, 1.0)):
                    return None
            chunk = os.read(server.stdout.fileno(), 65536)
            if not chunk:
                return b""
            self._buffer += chunk
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        return line


def _outcome(event: dict[str, Any], timed_out: bool, timeout: float) -> Outcome:
    code = event["code"]
    if timed_out:
        return Outcome(False, "timeout", f"stopped after the time-out of {timeout:g} s")
    if code == 0:
        return Outcome(True)
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return Outcome(False, "killed", f"its process was ended by {name}{hint}")
    return Outcome(False, "failed", event.get("reason") or f"its process ended with exit code {code}; see its log.txt")
