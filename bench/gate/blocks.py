"""Blocks of fresh processes, run one after the other and kept as they finish, so that an interrupted run goes on from there."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from bench import provenance
from bench.errors import BenchError
from bench.gate.versions import Version
from bench.measure.cores import quiet_cores
from bench.suite import Config

SCRIPT = Path(__file__).with_name("block.py")
BLOCKS = "blocks.jsonl"
BLOCK_SECONDS, LEAST_SECONDS, MOST_SECONDS = 2.4, 0.3, 1.0
"""Turns of a block: in all, and the bounds of the equal share of one phase of one cell. The fewer suspects, the more each gets."""

METRICS: dict[str, tuple[str, str]] = {
    "training_throughput": ("images/s", "higher"),
    "sampling_throughput": ("images/s", "higher"),
    "peak_memory_training": ("MiB", "lower"),
    "peak_memory_sampling": ("MiB", "lower"),
}
"""What a block can measure: unit and better direction."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What every block measures: cells (data set, model), metrics, device and threads."""

    suite: str
    cells: tuple[dict[str, Any], ...]
    metrics: tuple[str, ...]
    device: str
    threads: int
    timeout: float

    @property
    def packages(self) -> list[str]:
        targets = [cell[key] for cell in self.cells for key in ("model_target", "dataset_target")]
        return sorted({"bench", *(target.partition(".")[0].partition(":")[0] for target in targets)})


def work_of(config: Config, suite_name: str, metrics: Sequence[str], device: str) -> Work:
    """The cells of a suite: each of its models on each of its data sets. Loads neither data nor torch."""
    suite = config.suite(suite_name)
    cells = []
    for dataset in suite.datasets:
        dataset_target, dataset_options = config.dataset_source(dataset)
        for model in suite.models:
            model_target, model_config = config.model_source(model)
            cells.append({
                "name": f"{dataset}/{model}", "dataset_target": dataset_target, "dataset_options": dataset_options,
                "model_target": model_target, "model_config": model_config, "batch_size": suite.batch_size,
                "sample_batch": suite.sample_batch, "seed": suite.seeds[0],
            })  # fmt: skip
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    return Work(suite_name, tuple(cells), tuple(metrics), device, threads, suite.timeout)


class BlockFailure(Exception):
    """A block that could not be measured, in one sentence."""


class Blocks:
    """The blocks of one run: ``arms`` name -> version, the first of them is what the others are held against.

    folder: where finished blocks are kept. on_block: called after each block with what it found.
    """

    def __init__(
        self,
        work: Work,
        arms: dict[str, Version],
        folder: Path,
        on_block: Callable[[dict[str, Any]], None] = lambda found: None,
    ) -> None:
        self.work, self.arms, self.folder, self.on_block = work, arms, folder, on_block
        self._done = {(b["stage"], b["index"]): b for b in self._stored()}
        self._checked = False

    @property
    def path(self) -> Path:
        return self.folder / BLOCKS

    @property
    def finished_before(self) -> int:
        """Blocks that an interrupted run left."""
        return len(self._done)

    def take(
        self, stage: int, count: int, cells: Sequence[str], metrics: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Blocks 0 ... count - 1 of a stage: those that are stored, the others measured now.

        cells: their names. metrics: of those of the work; None for all. Raises BlockFailure.
        """
        with Script(next(iter(self.arms.values())).python, self.work) as script:
            return [self._one(script, stage, index, cells, metrics or self.work.metrics) for index in range(count)]

    def close(self) -> None:
        """The run is over: its blocks become history, and the next run measures anew."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
        if self.path.exists():
            self.path.rename(self.folder / f"finished-{stamp}.jsonl")

    def _one(
        self, script: Script, stage: int, index: int, cells: Sequence[str], metrics: Sequence[str]
    ) -> dict[str, Any]:
        stored = self._done.get((stage, index))
        if stored is None or not (set(cells) <= set(stored["cells"]) and set(metrics) <= set(stored["metrics"])):
            stored = self._measure(script, stage, index, cells, metrics)
            self._done[stage, index] = stored
            self._append(stored)
        self.on_block(stored)
        return stored

    def _measure(
        self, script: Script, stage: int, index: int, cells: Sequence[str], metrics: Sequence[str]
    ) -> dict[str, Any]:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        spec = {
            "cells": [cell for cell in self.work.cells if cell["name"] in cells], "metrics": list(metrics),
            "device": self.work.device, "threads": self.work.threads,
            "cores": quiet_cores(self.work.threads), "seconds": phase_seconds(len(cells), metrics), "seed": seed,
            "packages": self.work.packages,
            "arms": [{"name": n, "python": v.python, "paths": v.paths} for n, v in self._in_random_order(seed)],
        }  # fmt: skip
        began, load = monotonic(), os.getloadavg()[0]
        found = script.ask(spec)
        sources = found.pop("sources")
        if not self._checked:
            self._check_origin(sources)
            self._checked = True
        digests = {name: _sources_digest(modules) for name, modules in sources.items()}
        return {
            "stage": stage, "index": index, "cells": list(cells), "metrics": list(metrics), **found, "sources": digests,
            "seed": seed, "load": round(load, 2), "seconds": round(monotonic() - began, 2),
        }  # fmt: skip

    def _in_random_order(self, seed: int) -> list[tuple[str, Version]]:
        """The reference first (ratios are taken to it), the processes of the others started in random order."""
        first, *others = self.arms.items()
        return [first, *(others[i] for i in np.random.default_rng(seed).permutation(len(others)))]

    def _check_origin(self, sources: dict[str, dict[str, list[str]]]) -> None:
        """Each version must have been measured from its own code, not from an installed copy."""
        for name, version in self.arms.items():
            files = [file for file, _ in sources[name].values()]
            if version.root and not any(Path(file).resolve().is_relative_to(version.root) for file in files):
                packages = ", ".join(self.work.packages)
                raise BenchError(
                    f"'{version.label}' holds none of the packages that are measured ({packages}), so that the installed copy would "
                    "be timed; run in the repository of the models, or give two environments"
                )

    def _append(self, block: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(block) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _stored(self) -> list[dict[str, Any]]:
        """What an interrupted run left; a torn line is measured again."""
        if not self.path.is_file():
            return []
        blocks = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                blocks.append(json.loads(line))
            except ValueError:
                continue
        return blocks


def phase_seconds(cells: int, metrics: Sequence[str]) -> float:
    """What all versions together may spend in the turns of one phase of one cell."""
    phases = sum(metric.endswith("_throughput") for metric in metrics)
    return min(MOST_SECONDS, max(LEAST_SECONDS, BLOCK_SECONDS / max(1, cells * phases)))


class Script:
    """block.py in a process of its own, started for the first block and ended, with all its children, on leaving."""

    def __init__(self, python: str, work: Work) -> None:
        self._python, self._work = python, work
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed on leaving)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            _end(self._process)
        self._said.close()

    def ask(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What the block of ``spec`` found; BlockFailure with the last line it said where it fails."""
        process = self._process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(spec), file=process.stdin, flush=True)
        if not select.select([process.stdout], [], [], self._work.timeout)[0]:
            raise BlockFailure(
                f"a block took longer than {self._work.timeout:g} s; raise 'timeout' of suite '{self._work.suite}'"
            )
        line = process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"ended": process.wait()}
        if "ended" in found:
            self._said.seek(0)
            last = (self._said.read().strip() or "it said nothing").splitlines()[-1]
            raise BlockFailure(f"a block ended with code {found['ended']}: {last}")
        return found

    def _start(self) -> subprocess.Popen[str]:
        threads = str(self._work.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment.pop("PYTHONPATH", None)
        return subprocess.Popen(
            [self._python, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[str]) -> None:
    """No process of the blocks outlives them, whatever ended them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _sources_digest(modules: dict[str, list[str]]) -> str:
    return hashlib.sha256(
        provenance.canonical_json({n: digest for n, (_, digest) in modules.items()}).encode()
    ).hexdigest()[:12]
