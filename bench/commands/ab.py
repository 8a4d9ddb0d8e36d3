"""`bench ab`: two versions of the code timed side by side."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import ConfigOption, ResultsOption, names_of
from bench.commands.outputs import BadgeOption, GithubOption, JsonOption, JunitOption, MarkdownOption, publish
from bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from bench.suite import Gate

_VERSION = "A git revision, a source folder (`.` is the working tree) or an environment (its folder or its python)."


def ab(
    base: Annotated[str, typer.Argument(metavar="BASE", help=_VERSION)],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="As BASE.")] = ".",
    suite: Annotated[str, typer.Option(help="The suite whose models are timed.")] = "ci",
    metrics: Annotated[
        str, typer.Option(help="training-throughput, sampling-throughput, peak-memory.")
    ] = "training-throughput,sampling-throughput,peak-memory",
    margin: Annotated[
        str | None,
        typer.Option(
            help="The change that does not matter, e.g. 5%. [default: that of [gate], else 5% or twice the stored noise]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
    github: GithubOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    json_file: JsonOption = None,
    badge: BadgeOption = None,
) -> int:
    """Is HEAD slower than BASE? Both are timed in turns, in blocks of fresh processes; a family-wise false-alarm rate of 1 %.

    Exit codes: 0 nothing got slower, 1 regression, 2 wrong call, 3 something failed, 4 the machine is too noisy to tell.
    Ctrl-C and start again: finished blocks are kept.
    """
    from bench.config_file import find_config
    from bench.gate.ab import run_ab
    from bench.gate.blocks import work_of
    from bench.gate.progress import BlockDisplay
    from bench.gate.versions import prepared
    from bench.suite import load_config

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled CI job cleans up as Ctrl-C does
    settings = load_config(find_config(config))
    wanted = measured(metrics)
    work = work_of(settings, suite, wanted, resolved_device(device))
    margins, note = margins_of(wanted, settings.gate, margin, results, work.device)
    with prepared(base, head) as (one, two), BlockDisplay(f"{two.label} against {one.label}") as display:
        verdicts = run_ab(one, two, work, margins, results, display.on_block)
    if note:
        verdicts = dataclasses.replace(verdicts, notes=(*verdicts.notes, note))
    return publish(verdicts, github, junit, markdown, json_file, badge)


def measured(text: str) -> list[str]:
    """The metrics of a block, by name; ``peak-memory`` is that of training and that of sampling."""
    from bench.gate.blocks import METRICS

    found: list[str] = []
    for name in names_of(text) or []:
        plain = name.replace("-", "_")
        matches = [metric for metric in METRICS if metric == plain or metric.startswith(f"{plain}_")]
        if not matches:
            known = ["training-throughput", "sampling-throughput", "peak-memory"]
            raise BenchError(f"--metrics: blocks do not measure '{name}'; {did_you_mean(name, known)}")
        found += matches
    if not found:
        raise BenchError("--metrics names none; leave it out for all three")
    return list(dict.fromkeys(found))


def margins_of(
    metrics: list[str], gate: Gate | None, given: str | None, results: Path, device: str
) -> tuple[dict[str, float], str]:
    """(metric -> share, sentence on those that nobody gave): --margin, else [gate], else 5 % or twice the machine's stored noise."""
    from bench import provenance
    from bench.gate.margins import USUAL, Margin, said, stored_margins

    declared = {m.metric: m.margin for m in gate.metrics if m.margin is not None} if gate else {}
    silent = [] if given else [metric for metric in metrics if metric not in declared]
    stored = stored_margins(results) if silent else {}
    usual = max(USUAL, stored.get(provenance.environment(device)[0], USUAL)) if stored else USUAL
    margins = {}
    for metric in metrics:
        if metric in silent:
            margins[metric] = usual
            continue
        margin = Margin.parse(given or declared[metric])
        if not margin.relative or margin.value == 0:
            raise BenchError(f"times are compared by ratio: the margin of '{metric}' must be a share such as 5%")
        margins[metric] = margin.value
    return margins, f"margin of {', '.join(silent)}: {said(usual)}" if silent else ""


def resolved_device(device: str) -> str:
    from bench import provenance

    if device == "auto":
        return "cuda" if provenance.has_cuda() else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and provenance.has_cuda()):
        raise BenchError(f"--device takes auto, cpu or a CUDA device that is here, got '{device}'")
    return device
