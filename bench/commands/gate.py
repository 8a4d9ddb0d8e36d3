"""`bench gate`: did the declared family regress?"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK, ConfigOption, ResultsOption
from bench.commands.outputs import BadgeOption, GithubOption, JsonOption, JunitOption, MarkdownOption, publish
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.report.verdicts import Verdicts
    from bench.suite import Config, Gate


def gate(
    baseline: Annotated[
        str, typer.Option(metavar="PATH|REV", help="Results folder, records file or git revision to hold against.")
    ] = "HEAD",
    results: ResultsOption = Path("results"),
    config: ConfigOption = None,
    speed: Annotated[
        Path | None, typer.Option("--ab", help="JSON that `bench ab --json` wrote: its verdicts join these.")
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Instead: false alarms and power of `bench ab` on this machine, from A/A runs."
        ),
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="A/A runs of --self-test, two minutes each.")] = 3,
    github: GithubOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    json_file: JsonOption = None,
    badge: BadgeOption = None,
) -> int:
    """Hold the records against a baseline: the family of [gate] in the config, with its false-alarm rate.

    Exit codes: 0 nothing got worse, 1 regression, 2 wrong call, 3 failed or missing trials, 4 inconclusive.
    """
    from bench.config_file import find_config
    from bench.gate.judge import gate_sides
    from bench.gate.margins import stored_margins
    from bench.gate.sides import load_side
    from bench.report.verdicts import Verdicts, merged
    from bench.suite import FLOOR

    path = find_config(config)
    if self_test:
        return self_test_command(path, runs, results)
    settings, family = declared_family(path)
    if not results.exists():
        raise BenchError(f"no results at '{results}'; run `bench run {family.suite}` first or give --results")
    if _within(Path(baseline), results):
        raise BenchError(
            f"--baseline '{baseline}' holds the very records that are judged; give a git revision (the default: HEAD), or other "
            "records by --results"
        )
    noise = stored_margins(results) if any(member.margin is None for member in family.metrics) else {}
    suite = settings.suites[family.suite]
    models = {*suite.models, *suite.baselines, FLOOR}
    verdicts = gate_sides(load_side(baseline, results), load_side(str(results)), family, noise, models)
    if speed is not None:
        try:
            text = speed.read_text(encoding="utf-8")
        except OSError as error:
            raise BenchError(f"--ab: cannot read '{speed}': {error.strerror}") from None
        timed = _timed(Verdicts.from_json(text, str(speed)), str(speed), baseline)
        verdicts = merged([verdicts.without(timed), timed])
    return publish(verdicts, github, junit, markdown, json_file, badge)


def _within(baseline: Path, results: Path) -> bool:
    """Whether a baseline that is a path is what is judged, or a part of it."""
    return baseline.exists() and results.resolve() in (baseline.resolve(), *baseline.resolve().parents)


def _timed(found: Verdicts, file: str, baseline: str) -> Verdicts:
    """The verdicts of `bench ab` as a part of the gate; what was timed between other commits decides nothing."""
    from bench.gate.sides import commit_of

    if found.kind != "ab":
        raise BenchError(f"--ab: {file} holds the verdicts of `bench {found.kind}`, not of `bench ab`")
    if not found.lines:
        raise BenchError(f"--ab: {file} compared nothing; run `bench ab` again")
    for said, due in ((found.base, baseline), (found.head, "HEAD")):
        commit, timed = commit_of(due), re.search(r"\b([0-9a-f]{7,40})\)?$", said)
        if commit and timed and not commit.startswith(timed[1]):
            reason = f"timed for {said}, which is not {due} ({commit[:10]})"
            lines = [
                dataclasses.replace(line, verdict="inconclusive", reason=reason)
                if line.verdict not in ("failed", "missing")
                else line
                for line in found.lines
            ]
            return dataclasses.replace(found, lines=tuple(lines))
    return found


def declared_family(path: Path) -> tuple[Config, Gate]:
    """The configuration, and the family of its [gate]."""
    from bench.suite import load_config

    settings = load_config(path)
    if settings.gate is None:
        raise BenchError(f"{path} declares no [gate]; add its suite and [[gate.metrics]]")
    return settings, settings.gate


def self_test_command(config: Path | None, runs: int, results: Path, device: str = "auto") -> int:
    """`bench gate --self-test` and `bench noise --gate`."""
    from bench.commands.ab import margins_of, resolved_device
    from bench.config_file import find_config
    from bench.gate.blocks import METRICS, BlockFailure, work_of
    from bench.gate.progress import BlockDisplay
    from bench.gate.selftest import self_test, sentences, this_version

    path = find_config(config)
    settings, family = declared_family(path)
    work = work_of(settings, family.suite, list(METRICS), resolved_device(device))
    margins, _ = margins_of(list(METRICS), family, None, results, work.device)
    try:
        with BlockDisplay("self-test of the gate", {1: "stage 1", 2: "stage 2"}) as display:
            found = self_test(this_version(), work, margins, runs, results, display.on_block)
    except BlockFailure as failure:
        raise BenchError(f"suite '{family.suite}' cannot be timed: {failure}") from None
    print("\n".join(sentences(found)))
    print(
        f"no slowdown within its margin counts: {', '.join(f'{metric} {share:.1%}' for metric, share in margins.items())}"
    )
    return OK
