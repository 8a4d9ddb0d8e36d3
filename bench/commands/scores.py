"""`bench score`: anybody's images against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OK, ConfigOption, names_of


def score(
    samples: Annotated[
        str, typer.Argument(help="Folder (recursive), zip, npz, npy, name of a data set, or statistics file.")
    ],
    reference: Annotated[str, typer.Option("--reference", help="What real images look like: as SAMPLES.")],
    metrics: Annotated[str | None, typer.Option(help="Registered metrics with commas between them.")] = None,
    extractor: Annotated[
        str, typer.Option(help="A registered extractor; timm:NAME, dinov2-VARIANT, clip-VARIANT, inception-MODE.")
    ] = "effnetlite0",
    train: Annotated[str | None, typer.Option(help="What the model learned from: as SAMPLES.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights, where it ships none.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    speed: Annotated[
        str,
        typer.Option(
            help="exact, bfloat16, compiled or bfloat16+compiled: used if a check allows it, which is printed."
        ),
    ] = "exact",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a corrupt image.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    config: ConfigOption = None,
) -> int:
    """Score anybody's images against a reference: the same metrics, intervals and floor as in suites."""
    from rich.console import Console

    from bench.api import resolve_device
    from bench.foreign import DEFAULT_METRICS, score_images
    from bench.report.scores import scores_json, scores_renderable
    from bench.store import write_atomically

    with Console(stderr=True).status("reading images") as progress:
        scores = score_images(
            samples,
            reference,
            names_of(metrics) or DEFAULT_METRICS,
            extractor,
            train,
            extractor_options={} if weights is None else {"weights": str(weights)},
            device=resolve_device(device),
            strict=strict,
            speed=speed,
            config=config,
            on_phase=progress.update,
        )
    Console().print(scores_renderable(scores))
    if json_file is not None:
        write_atomically(json_file, scores_json(scores).encode())
    return OK
