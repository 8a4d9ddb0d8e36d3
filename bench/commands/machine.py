"""`bench doctor|noise`: what this machine can measure, and how much it differs from itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, ResultsOption

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


def doctor(device: DeviceOption = "auto") -> int:
    """Device, versions, what can be measured here and what not, and how noisy the machine is."""
    import torch
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bench.api import resolve_device
    from bench.measure.doctor import abilities, facts
    from bench.measure.lock import device_lock
    from bench.measure.noise import measure_noise

    console, where = Console(), torch.device(resolve_device(device))
    with device_lock(str(where), lambda: _waiting(str(where))):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for label, text in facts(where).items():
            table.add_row(Text(label, style="dim"), Text(text))
        console.print(table)
        console.print()
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for ability in abilities(where):
            mark = Text("measured", style="green") if ability.measured else Text("not measured", style="yellow")
            table.add_row(Text(ability.quantity), mark, Text(ability.how))
        console.print(table)
        console.print()
        noise = measure_noise(where, pairs=12)
    console.print(
        f"A/A: the same work differs from itself by up to {noise.largest_usual:.1%} in 95 of 100 pairs; "
        f"intervals overlap in {noise.overlaps}/{noise.pairs} (`bench noise` measures this properly)",
        highlight=False,
        soft_wrap=True,
    )
    return OK


def noise(
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs of A and A; half a second each.", min=2)] = 100,
    device: DeviceOption = "auto",
    results: ResultsOption = Path("results"),
) -> int:
    """Measure how much this machine differs from itself (A/A) and store it for comparisons."""
    import torch
    from rich.console import Console

    from bench.api import resolve_device
    from bench.measure.lock import device_lock
    from bench.measure.noise import REQUIRED_OVERLAP, measure_noise, save_noise

    console, where = Console(), torch.device(resolve_device(device))
    with device_lock(str(where), lambda: _waiting(str(where))), Console(stderr=True).status("A/A") as shown:
        found = measure_noise(where, pairs, on_pair=lambda done: shown.update(f"A/A: {done}/{pairs} pairs"))
    path = save_noise(found, results)
    share = found.overlap
    console.print(
        f"{found.pairs} pairs of {found.blocks} + {found.blocks} blocks; one lap {found.lap_seconds * 1e3:.3g} ms\n"
        f"differences: spread {found.spread:.2%}, 95 of 100 below {found.largest_usual:.2%}\n"
        f"95 % intervals overlap in {found.overlaps} of {found.pairs} pairs ({share.value:.0%}, 95 % interval "
        f"{share.low:.0%} to {share.high:.0%}): "
        + (
            "as they must"
            if share.value >= REQUIRED_OVERLAP
            else f"fewer than {REQUIRED_OVERLAP:.0%}, intervals are too short here"
        )
        + f"\nwrote {path}",
        highlight=False,
        soft_wrap=True,
    )
    return OK


def _waiting(device: str) -> None:
    import sys

    print(f"waiting: a trial runs on {device}", file=sys.stderr)
