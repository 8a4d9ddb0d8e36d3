"""False alarms and power of `bench ab`, beside the rules of pytest-benchmark and asv, and the table for docs/gate.md.

    python benchmarks/false_alarms.py --runs 15 --write       # an hour, in the background
    python benchmarks/false_alarms.py --simulate --write      # minutes

Real runs: in every third one a second process loads a core. Each run gates this version against itself and against a copy whose
sampler takes 10 % longer, as `bench ab` does: fresh blocks only for what the first stage leaves open. The other rules see the
median seconds of each block of the first stage, which measures everything: pytest-benchmark's
``--benchmark-compare-fail=mean:5%`` compares the mean of head with that of base, measured one after the other; asv's
``continuous`` with factor 1.05 wants the ratio of medians above it and a Mann-Whitney p below 0.002, here with its rounds interleaved, which is not its default.
Simulated runs: 1000 unchanged gates of 20 metrics on the noisy machine of tests/stats/machine.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from bench.gate.ab import decide, names_of, open_names
from bench.gate.blocks import METRICS, Blocks, Work, work_of
from bench.gate.progress import BlockDisplay
from bench.gate.versions import Version
from bench.stats.gate import FIRST_BLOCKS, SECOND_BLOCKS, judge, open_after_first
from bench.stats.intervals import wilson_interval
from bench.suite import load_config

Run = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""The blocks of both stages of one gate."""

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "gate.md"
MARGIN, SLOWDOWN, FACTOR = 0.05, 1.10, 1.05
SLOWER = f"""
import time

_draw_batch = draw_batch


def draw_batch(*arguments, **options):
    began = time.perf_counter()
    samples = _draw_batch(*arguments, **options)
    due = began + {SLOWDOWN} * (time.perf_counter() - began)
    while time.perf_counter() < due:
        pass
    return samples
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=0, help="real runs of each kind (one to two minutes each)")
    parser.add_argument("--first", type=int, default=FIRST_BLOCKS, help="blocks of the first stage")
    parser.add_argument("--second", type=int, default=SECOND_BLOCKS, help="blocks of the second stage")
    parser.add_argument("--simulate", type=int, nargs="?", const=1000, default=0, help="simulated runs of 20 metrics")
    parser.add_argument(
        "--out", type=Path, default=Path("results/ab/false-alarms"), help="finished blocks are kept here"
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/gate.md")
    given = parser.parse_args()
    if given.simulate:
        show("simulated gates", simulated(given.simulate), given.write)
    if given.runs:
        show("real gates", real(given.runs, given.first, given.second, given.out), given.write)


def show(part: str, text: str, write: bool) -> None:
    """Print one part and, where asked, put it between its marks in the page."""
    print(text)
    if write:
        marks = f"(?<=<!-- {part} -->\n).*?(?=<!-- /{part} -->)"
        DOCS.write_text(re.sub(marks, lambda _: f"\n{text}\n\n", DOCS.read_text(), flags=re.DOTALL))


# --- real


def real(runs: int, first: int, second: int, out: Path) -> str:
    config = load_config(ROOT / "benchmarks.toml")
    work = work_of(config, "ci", list(METRICS), "cpu")
    here = Version("this version", "this", sys.executable, (str(ROOT),), None)
    slow = Version("sampler 10 % slower", "slow", sys.executable, (str(slowed(out / "slowed")), str(ROOT)), None)
    unchanged: list[Run] = []
    planted: list[Run] = []
    with BlockDisplay(f"{runs} runs, each unchanged and with a slower sampler") as display:
        for run in range(runs):
            with load_on_one_core(run % 3 == 2):
                for kind, head, kept in (("unchanged", here, unchanged), ("slower", slow, planted)):
                    arms = {"base": here, "head": head, "control": here}
                    folder = out / f"{kind}-{run}"
                    blocks = Blocks(work, arms, folder, lambda found: display.on_block(2 * runs * first, found))
                    kept.append(gated(blocks, first, second))
            counts = {"runs": run + 1, "unchanged": tally(unchanged), "slower": tally(planted)}
            (out / "verdicts.json").write_text(json.dumps(counts, indent=1))
    return table(work, unchanged, planted)


def gated(blocks: Blocks, first: int, second: int) -> Run:
    """Both stages of one gate, the second for what the first leaves open."""
    all_of_them = blocks.take(1, first, [cell["name"] for cell in blocks.work.cells])
    family = names_of(all_of_them)
    again = open_names(all_of_them, family, dict.fromkeys(family, MARGIN))
    if not again:
        return all_of_them, []
    return all_of_them, blocks.take(2, second, sorted({c for c, _ in again}), sorted({m for _, m in again}))


def slowed(folder: Path) -> Path:
    """A copy of the package whose ``bench.sampling.draw_batch`` takes 10 % longer, as a slower commit would."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "bench" / "sampling.py", "a", encoding="utf-8") as file:
        file.write(SLOWER)
    return folder


@contextlib.contextmanager
def load_on_one_core(wanted: bool) -> Iterator[None]:
    """Another process that computes all the time, on the first core of this process."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) if wanted else None
    if process:
        process.start()
    try:
        yield
    finally:
        if process:
            process.kill()
            process.join()


def _spin() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        np.linalg.svd(np.random.default_rng(0).standard_normal((200, 200)))


def tally(runs: list[Run]) -> dict[str, dict[str, int]]:
    """Rule -> how many runs had an alarm on any metric, on the sampling of any model, of every model, and (ours) stayed open."""
    found: dict[str, dict[str, int]] = {}

    def add(rule: str, key: str, hit: bool) -> None:
        counts = found.setdefault(rule, {"any": 0, "caught": 0, "sampler": 0, "open": 0})
        counts[key] += int(hit)

    for first, second in runs:
        family = names_of(first)
        samplers = [name for name in family if name[1] == "sampling_throughput"]
        margins = dict.fromkeys(family, MARGIN)
        lines = decide(first, second, open_names(first, family, margins), family, margins)
        ours = {(line.subject, line.metric): line.verdict for line in lines}
        add("gen-bench", "any", "worse" in ours.values())
        add("gen-bench", "caught", any(ours[name] == "worse" for name in samplers))
        add("gen-bench", "sampler", all(ours[name] == "worse" for name in samplers))
        add("gen-bench", "open", "inconclusive" in ours.values())
        for rule, alarms in (
            ("pytest-benchmark mean:5%", {n: mean_rule(*one_after_the_other_costs(first, n)) for n in family}),
            (
                "asv factor 1.05, interleaved rounds",
                {n: asv_rule(costs(first, "base", n), costs(first, "head", n)) for n in family},
            ),
        ):
            add(rule, "any", any(alarms.values()))
            add(rule, "caught", any(alarms[name] for name in samplers))
            add(rule, "sampler", all(alarms[name] for name in samplers))
    return found


def costs(blocks: list[dict[str, Any]], arm: str, name: tuple[str, str]) -> np.ndarray:
    """One value a block, turned so that more is worse."""
    cell, metric = name
    sign = 1.0 if METRICS[metric][1] == "lower" else -1.0
    return np.array([b["values"][arm][cell][metric] for b in blocks]) ** sign


def one_after_the_other_costs(blocks: list[dict[str, Any]], name: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(base, head): base from the first half of the blocks, head from the second, as two runs of a test session are."""
    half = len(blocks) // 2
    return costs(blocks[:half], "base", name), costs(blocks[half:], "head", name)


def mean_rule(base: np.ndarray, head: np.ndarray) -> bool:
    return bool(head.mean() > 1.05 * base.mean())


def asv_rule(base: np.ndarray, head: np.ndarray) -> bool:
    return bool(np.median(head) > FACTOR * np.median(base) and mannwhitneyu(head, base).pvalue < 0.002)


def loads(runs: list[Run]) -> str:
    """What else the machine did."""
    found = [block["load"] for run in runs for stage in run for block in stage]
    low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
    return f"load average of the machine {low:.1f} to {high:.1f}, median {middle:.1f}"


def table(work: Work, unchanged_runs: list[Run], slower_runs: list[Run]) -> str:
    unchanged, slower, runs = tally(unchanged_runs), tally(slower_runs), len(unchanged_runs)
    lines = [
        f"Real runs on one machine ({runs} of each kind, {len(work.cells) * len(work.metrics)} gated metrics, a second process loading "
        f"one core in every third; {loads(unchanged_runs + slower_runs)}; the other rules see the eight blocks of the first stage):",
        "",
        "| rule | unchanged: runs with an alarm | inconclusive | sampler 10 % slower: caught | on every model |",
        "|---|--:|--:|--:|--:|",
    ]
    for rule in unchanged:
        left = f"{unchanged[rule]['open']} of {runs}" if rule == "gen-bench" else "–"
        caught = f"{slower[rule]['caught']} of {runs} | {slower[rule]['sampler']} of {runs}"
        lines.append(f"| {rule} | {unchanged[rule]['any']} of {runs} | {left} | {caught} |")
    return "\n".join(lines)


# --- simulated


def simulated(runs: int) -> str:
    sys.path.insert(0, str(ROOT))
    from tests.stats.machine import differences, one_after_the_other

    rng = np.random.default_rng(0)
    counts = {"unchanged": [0, 0, 0], "slower": [0, 0, 0]}
    names = [f"metric {i}" for i in range(20)]
    margins = dict.fromkeys(names, MARGIN)
    for kind, slow in (("unchanged", np.ones(20)), ("slower", np.r_[SLOWDOWN, np.ones(19)])):
        watched = slice(None) if kind == "unchanged" else slice(0, 1)
        for _ in range(runs):
            first = dict(zip(names, differences(rng, FIRST_BLOCKS, slow)))
            again = open_after_first(first, margins)
            fresh = dict(zip(names, differences(rng, SECOND_BLOCKS, slow)))
            decisions = judge(first, {name: fresh[name] for name in again}, margins)
            counts[kind][0] += any(d.verdict == "worse" for d in decisions[watched])
            pairs = [one_after_the_other(rng, 40, s) for s in slow[watched]]
            counts[kind][1] += any(mean_rule(np.exp(a), np.exp(b)) for a, b in pairs)
            rounds = [[one_after_the_other(rng, 20, s) for _ in range(2)] for s in slow[watched]]
            counts[kind][2] += any(asv_rule(*np.exp(np.concatenate(both, axis=1))) for both in rounds)

    def share(count: int) -> str:
        e = wilson_interval(count, runs)
        assert e.low is not None
        assert e.high is not None
        return f"{100 * e.value:.1f} % [{100 * e.low:.1f}, {100 * e.high:.1f}]"

    rules = ("gen-bench", "pytest-benchmark mean:5%", "asv factor 1.05, interleaved rounds")
    lines = [
        f"Simulated, {runs} runs of 20 gated metrics each (2 % white noise, 5 % slow drift, 5 % of readings 10 to 60 % too slow), share of "
        "runs with 95 % interval:",
        "",
        "| rule | nothing changed: any alarm | one metric 10 % slower: caught |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {rule} | {share(counts['unchanged'][i])} | {share(counts['slower'][i])} |" for i, rule in enumerate(rules)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
