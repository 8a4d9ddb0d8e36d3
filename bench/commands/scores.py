"""`bench score`: anybody's images against a reference; `bench statistics`: what stands for a reference from then on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import OK, ConfigOption
from bench.errors import BenchError

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

    if json_file is not None:
        _check_target("--json", json_file)
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
        write_atomically(json_file.expanduser(), scores_json(scores).encode())
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

    _check_target("--output", output)
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


def _check_target(option: str, path: Path) -> None:
    """BenchError where a file cannot be written, before anything has been computed for it."""
    path = path.expanduser()
    if path.is_dir():
        raise BenchError(f"{option}: '{path}' is a folder; name a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise BenchError(f"{option}: '{path}' cannot be written, as '{above}' is a file; give another path")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BenchError(f"{option}: '{path}' cannot be written, as '{above}' is read-only; give another path")


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
