"""`bench score`: anybody's images against a reference; `bench statistics`: what stands for a reference from then on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK, ConfigOption

if TYPE_CHECKING:
    from bench.report.image_progress import ImageProgress

ExtractorOption = Annotated[
    str,
    typer.Option(
        help="A registered extractor; timm:NAME, dinov2-VARIANT, clip-VARIANT, inception-MODE, my_file:MyClass."
    ),
]
WeightsOption = Annotated[Path | None, typer.Option(help="The extractor's weights, where it ships none.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at a corrupt image.")]


def score(
    samples: Annotated[
        str, typer.Argument(help="Folder (recursive), zip, npz, npy, name of a data set, or statistics file.")
    ],
    reference: Annotated[str, typer.Option("--reference", help="What real images look like: as SAMPLES.")],
    metrics: Annotated[
        str | None, typer.Option(help="Metrics with commas between them, each with its options: prdc:k=3,kernel.")
    ] = None,
    extractor: ExtractorOption = "effnetlite0",
    train: Annotated[str | None, typer.Option(help="What the model learned from: as SAMPLES.")] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    speed: Annotated[
        str,
        typer.Option(
            help="exact, bfloat16, compiled or bfloat16+compiled: used if a check allows it, which is printed."
        ),
    ] = "exact",
    strict: StrictOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    config: ConfigOption = None,
) -> int:
    """Score anybody's images against a reference: the same metrics, intervals and floor as in suites."""
    from rich.console import Console

    from bench.foreign import DEFAULT_METRICS, score_images
    from bench.foreign_choices import metrics_in
    from bench.report.scores import scores_json, scores_renderable
    from bench.store import write_atomically

    with _watched() as watched:
        scores = score_images(
            samples,
            reference,
            metrics_in(metrics) or DEFAULT_METRICS,
            extractor,
            train,
            extractor_options={} if weights is None else {"weights": str(weights)},
            device=device,
            strict=strict,
            speed=speed,
            config=config,
            on_phase=watched.phase,
            on_images=watched.images,
        )
    Console().print(scores_renderable(scores))
    if json_file is not None:
        write_atomically(json_file, scores_json(scores).encode())
    return OK


def statistics(
    reference: Annotated[str, typer.Argument(help="Folder (recursive), zip, npz, npy or name of a data set.")],
    output: Annotated[Path, typer.Option("--output", help="The file to write, an .npz.")],
    extractor: ExtractorOption = "effnetlite0",
    layer: Annotated[
        str | None, typer.Option(help="A layer of the extractor. [default: that of `bench score`'s Fréchet distance]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set: test or train. [default: test]")] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    strict: StrictOption = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    config: ConfigOption = None,
) -> int:
    """Write the mean and covariance of a reference's features, for `bench score --reference FILE`."""
    from rich.console import Console

    from bench.foreign_statistics import write_statistics

    with _watched() as watched:
        path, made, warnings = write_statistics(
            reference,
            output,
            extractor,
            layer,
            split,
            extractor_options={} if weights is None else {"weights": str(weights)},
            device=device,
            strict=strict,
            force=force,
            config=config,
            on_phase=watched.phase,
            on_images=watched.images,
        )
    about = made.provenance
    print(
        f"{path}: {made.n:,} images of {about.data}, layer '{about.layer}' of {about.extractor} ({len(made.mu)} numbers)"
    )
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, style="yellow", soft_wrap=True)
    return OK


@contextlib.contextmanager
def _watched() -> Iterator[ImageProgress]:
    """A progress bar on stderr, and one sentence where somebody stops it."""
    from rich.console import Console

    from bench.report.image_progress import ImageProgress

    try:
        with ImageProgress(Console(stderr=True)) as watched:
            yield watched
    except KeyboardInterrupt:
        print(
            "bench: interrupted; features that are in the cache by now are not computed again by the same command",
            file=sys.stderr,
        )
        raise
