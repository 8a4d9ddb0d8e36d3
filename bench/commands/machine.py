"""`bench doctor|noise|scaling`: what this machine can measure, how much it differs from itself, how speed grows with size."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK, ConfigOption, ResultsOption
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.measure.noise import Noise

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


def doctor(device: DeviceOption = "auto", config: ConfigOption = None) -> int:
    """Device, versions, what can be measured here and what not, and how noisy the machine is."""
    import torch
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bench.api import resolve_device
    from bench.config_file import find_config
    from bench.measure.doctor import abilities, facts
    from bench.measure.lock import device_lock
    from bench.measure.noise import measure_noise
    from bench.suite import load_config

    path = find_config(config)
    prices = load_config(path).prices if path.is_file() else []
    console, where = Console(), torch.device(resolve_device(device))
    with device_lock(str(where), lambda: _waiting(str(where))):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for label, text in facts(where).items():
            table.add_row(Text(label, style="dim"), Text(text))
        console.print(table)
        console.print()
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for ability in abilities(where, prices):
            mark = Text("measured", style="green") if ability.measured else Text("not measured", style="yellow")
            table.add_row(Text(ability.quantity), mark, Text(ability.how))
        console.print(table)
        console.print()
        noise = measure_noise(where, pairs=12)
    console.print(
        f"A/A: {noise.pairs} pairs of the same work differ by {noise.typical:.1%} (median) to {noise.largest:.1%}; their intervals "
        f"overlap in {noise.overlaps}. `bench noise` measures this properly and stores it for comparisons.",
        highlight=False,
    )
    return OK


def noise(
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs of A and A; half a second each.", min=2)] = 100,
    device: DeviceOption = "auto",
    results: ResultsOption = Path("results"),
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Instead: false alarms and power of `bench ab` here, as `bench gate --self-test`."),
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="A/A runs of --gate, two minutes each.")] = 3,
    config: ConfigOption = None,
) -> int:
    """Measure how much this machine differs from itself (A/A) and store it for comparisons."""
    if gate:
        from bench.commands.gate import self_test_command

        return self_test_command(config, runs, results, device)
    import torch
    from rich.console import Console

    from bench.api import resolve_device
    from bench.measure.lock import device_lock
    from bench.measure.noise import measure_noise, save_noise

    console, where = Console(), torch.device(resolve_device(device))
    with device_lock(str(where), lambda: _waiting(str(where))), Console(stderr=True).status("A/A") as shown:
        found = measure_noise(where, pairs, on_pair=lambda done: shown.update(f"A/A: {done}/{pairs} pairs"))
    path = save_noise(found, results)
    console.print("\n".join(noise_sentences(found)) + f"\nwrote {path}", highlight=False, soft_wrap=True)
    return OK


def noise_sentences(found: Noise) -> list[str]:
    """What an A/A measurement says, and what comparisons make of it."""
    from bench.gate.margins import USUAL
    from bench.measure.noise import REQUIRED_OVERLAP

    share = found.overlap
    assert share.low is not None
    assert share.high is not None
    if share.value >= REQUIRED_OVERLAP:
        judged = "as they must"
    elif share.high >= REQUIRED_OVERLAP:
        judged = f"too few pairs to tell whether in {REQUIRED_OVERLAP:.0%}, as they must"
    else:
        judged = f"fewer than {REQUIRED_OVERLAP:.0%}: intervals are too short here"
    wider = found.margin > USUAL
    return [
        f"{found.pairs} pairs of A and A on {found.device}, {found.blocks} + {found.blocks} blocks each; one lap {found.lap_seconds * 1e3:.3g} ms",
        f"differences: median {found.typical:.2%}, largest {found.largest:.2%}, spread (robust standard deviation) {found.spread:.2%}",
        f"95 % intervals of A and A overlap in {found.overlaps} of {found.pairs} pairs ({share.low:.0%} to {share.high:.0%}): {judged}",
        f"a change of speed or memory that does not matter, where nobody gives a margin: {found.margin:.1%}"
        + (", twice the spread" if wider else f", as twice the spread is less than {USUAL:.0%}"),
    ]


def _waiting(device: str) -> None:
    import sys

    print(f"waiting: a trial runs on {device}", file=sys.stderr)


def scaling(
    model: Annotated[str, typer.Argument(help="A registered model or a [models.NAME] variant.")],
    resolutions: Annotated[str | None, typer.Option(help="Side lengths in pixels, e.g. 8,16,32.")] = None,
    batches: Annotated[str | None, typer.Option(help="Batch sizes, e.g. 8,16,32.")] = None,
    widths: Annotated[str | None, typer.Option(help="Values of the model's option 'width', e.g. 16,32.")] = None,
    processes: Annotated[str | None, typer.Option(help="Numbers of training processes, e.g. 1,2.")] = None,
    resolution: Annotated[int, typer.Option(help="Side length where it is not varied.", min=1)] = 16,
    batch: Annotated[int, typer.Option(help="Batch size (of each process) where it is not varied.", min=1)] = 32,
    channels: Annotated[int, typer.Option(help="Colour channels.", min=1, max=4)] = 1,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
) -> int:
    """How a model's speed grows with resolution, batch size, width and number of processes."""
    from rich.console import Console

    from bench import api
    from bench.config_file import find_config
    from bench.execute.torchrun import Parallel, check_processes, measure_processes
    from bench.measure.lock import device_locks
    from bench.report.scaling import scaling_renderable
    from bench.scaling import Setup, Timed, measure_axis, save_scaling
    from bench.suite import load_config

    axes = {"resolution": resolutions, "batch": batches, "width": widths}
    sizes = {axis: _sizes(AXES[axis], text) for axis, text in axes.items() if text is not None}
    counts = _sizes("--processes", processes) if processes is not None else []
    if not sizes and not counts:
        raise BenchError("bench scaling varies nothing; give --resolutions, --batches, --widths or --processes")
    target, options = load_config(find_config(config)).model_source(model)
    where = api.resolve_device(device)
    check_processes(where, counts)
    setup = Setup(target, options, where, resolution, batch, None, channels)
    console = Console()
    used = [where] if where == "cpu" or not counts else [where, *(f"cuda:{number}" for number in range(max(counts)))]
    points: list[Timed] = []
    parallel: list[Parallel] = []
    written: Path | None = None
    try:
        with device_locks(used, lambda: _waiting(where)), Console(stderr=True).status("timing") as shown:
            left_out = functools.partial(shown.console.print, style="yellow")
            for axis, values in sizes.items():
                points += measure_axis(setup, axis, values, on_value=shown.update, on_failure=left_out)
                written = save_scaling(model, setup, points, parallel, results)
            for number in counts:
                shown.update(f"{number} processes")
                parallel.append(measure_processes(setup, number, max(counts)))
                written = save_scaling(model, setup, points, parallel, results)
    finally:  # what was measured before a failure is not lost by it
        if points or parallel:
            console.print(scaling_renderable(model, points, parallel))
        if written is not None:
            console.print(f"wrote {written}", highlight=False, soft_wrap=True)
    return OK


AXES = {"resolution": "--resolutions", "batch": "--batches", "width": "--widths"}


def _sizes(option: str, text: str) -> list[int]:
    """The sizes in "8,16,32"."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"{option} takes whole numbers with commas between them, got '{text}'") from None
    if min(values) < 1:
        raise BenchError(f"{option} takes numbers from 1 up, got '{text}'")
    return values
