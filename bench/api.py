"""The steps behind `bench run`, callable from Python: prepare a plan, execute it, write the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench import provenance
from bench.config_file import find_config
from bench.errors import BenchError
from bench.execute.run import Summary, run_plan, state
from bench.plan import Trial, check_models, plan
from bench.store import ResultStore, load_results
from bench.suite import Config, load_config

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Plan:
    """The trials of a suite and the store that takes their records."""

    suite: str
    config: Config
    trials: list[Trial]
    store: ResultStore

    def states(self) -> list[tuple[Trial, str]]:
        """Each trial with what a run would do: ``to run``, ``to score again`` or ``done``."""
        latest = self.store.latest()
        return [(trial, state(trial, latest, self.store)) for trial in self.trials]


def prepare(
    suite: str,
    *,
    config: Path | None = None,
    results: Path = Path("results"),
    device: str = "auto",
    seeds: list[int] | None = None,
    models: list[str] | None = None,
    check: bool = True,
) -> Plan:
    """Read the config, load the data and lay out the trials. BenchError where anything does not fit.

    check: also import every model that is still to run, to see that it takes its config and the data's space.
    """
    path = find_config(config)
    settings = load_config(path)
    trials = plan(
        settings,
        suite,
        device=resolve_device(device),
        seeds=seeds,
        models=models,
        search_path=path.resolve().parent,
    )
    prepared = Plan(suite, settings, trials, ResultStore(Path(results) / suite))
    if check:
        check_models([trial for trial, what in prepared.states() if what != "done"])
    return prepared


def resolve_device(device: str) -> str:
    """auto -> cuda where a device is there, else cpu; a CUDA device that is not there is a BenchError."""
    if device == "auto":
        return "cuda" if provenance.has_cuda() else "cpu"
    if device == "cpu":
        return device
    if device == "cuda" or device.startswith("cuda:"):
        if not provenance.has_cuda():
            raise BenchError("--device cuda: torch finds no CUDA device here; use --device cpu")
        number, count = device.partition(":")[2] or "0", provenance.cuda_devices()
        if not number.isdecimal() or int(number) >= count:
            raise BenchError(f"--device {device}: there are {count} CUDA devices here, numbered from 0")
        return device
    raise BenchError(f"--device takes auto, cpu or cuda, got '{device}'")


def execute(prepared: Plan, retry: bool = False) -> Summary:
    """Run what is not finished, with a progress display on stderr."""
    from bench.execute.display import RunDisplay
    from bench.execute.local import LocalExecutor

    console = Console(stderr=True)
    try:
        with RunDisplay(console) as display:
            summary = run_plan(prepared.trials, prepared.store, LocalExecutor, display, retry)
    except KeyboardInterrupt:
        done = sum(what == "done" for _, what in prepared.states())
        console.print(
            f"interrupted: {done}/{len(prepared.trials)} trials finished and kept; the same command goes on from here"
        )
        raise
    if summary.ran:
        console.print(
            f"{summary.ran} trials in {summary.wall_seconds:.0f} s, {summary.overhead:.1%} of it harness overhead; "
            f"{summary.done_before} were done before",
            highlight=False,
        )
    else:
        console.print(f"all {summary.done_before} trials were done before", highlight=False)
    return summary


def report(store: ResultStore) -> None:
    """Write the leaderboard, tables, plots and grids of one suite and print the leaderboard."""
    from bench.report.write import write_report

    write_report(store, Console())


def run(
    suite: str = "quick",
    *,
    config: str | Path | None = None,
    results: str | Path = "results",
    device: str = "auto",
    seeds: list[int] | None = None,
    models: list[str] | None = None,
) -> pd.DataFrame:
    """Run a suite as `bench run` does; returns the tidy frame of its results."""
    prepared = prepare(
        suite,
        config=None if config is None else Path(config),
        results=Path(results),
        device=device,
        seeds=seeds,
        models=models,
    )
    execute(prepared)
    report(prepared.store)
    return load_results(prepared.store.folder)
