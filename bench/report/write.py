"""From one suite's records to the files a person looks at: leaderboard (Markdown, CSV), plots, sample grids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record import Record, extractor_names
from bench.report.leaderboard import Leaderboard, leaderboards
from bench.report.markdown import leaderboard_csv, leaderboard_markdown
from bench.report.terminal import leaderboard_renderable
from bench.store import SAMPLES, ResultStore, to_frame, write_atomically

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console


NOT_MEASURED = "not measured: "
"""How a record's ``training.energy`` begins where nothing measured it."""


def write_report(store: ResultStore, console: Console) -> list[Leaderboard]:
    """Rewrite every report file of ``store`` from its records and print the leaderboards. Imports no torch."""
    records = store.current()
    boards = leaderboards(
        to_frame(records), rank_by=rank_by(records), objectives=objectives(records), first=columns(records)
    )
    about = {board.dataset: setting([r for r in records if r.dataset == board.dataset]) for board in boards}
    write_atomically(store.folder / "leaderboard.md", leaderboard_markdown(boards, about).encode())
    write_atomically(store.folder / "leaderboard.csv", leaderboard_csv(boards).encode())
    pictures = write_pictures(store, records, boards) + write_training(store, records) + write_curves(store, records)
    for board in boards:
        console.print(leaderboard_renderable(board, min(console.width, 160), about[board.dataset]))
    console.print(f"wrote {store.folder}/leaderboard.md, leaderboard.csv and {pictures} pictures", highlight=False)
    return boards


def write_pictures(store: ResultStore, records: list[Record], boards: list[Leaderboard]) -> int:
    """Plots of every board; one grid a model and a contact sheet a data set, where the sample sets are on disk."""
    from bench.report.plot import write_plot

    count = 0
    for board in boards:
        name = "quality_vs_speed" if len(boards) == 1 else f"quality_vs_speed_{board.dataset}"
        count += write_plot(board, store.folder / name)
    for dataset in dict.fromkeys(record.dataset for record in records):
        count += _write_grids(store, [record for record in records if record.dataset == dataset])
    return count


def write_training(store: ResultStore, records: list[Record]) -> int:
    """Pictures of the trainings that were watched for collapse. Returns how many that were."""
    if not any(record.training.get("diagnostics") for record in records):
        return 0
    from bench.report.training_plot import write_training_plots

    return write_training_plots(records, store.folder)


def write_curves(store: ResultStore, records: list[Record]) -> int:
    """``costs.md`` and its plots, where the suite asked for curves. Returns how many pictures that were."""
    if not any(record.curves for record in records):
        return 0
    from bench.report.costs import costs_markdown
    from bench.report.curve_plot import write_curve_plots

    tables = costs_markdown(records)
    if tables:
        write_atomically(store.folder / "costs.md", tables.encode())
    return write_curve_plots(records, store.folder)


def _write_grids(store: ResultStore, records: list[Record]) -> int:
    """The first samples of each model's first seed, never picked."""
    from bench.report.grid import contact_sheet, sample_grid, to_png

    shown: dict[str, np.ndarray] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.status == "complete" and record.model not in shown:
            samples = stored_samples(store.folder, record)
            if samples is not None and samples.ndim == 4:
                shown[record.model] = samples
    if not shown:
        return 0
    dataset = records[0].dataset
    for model, samples in shown.items():
        write_atomically(store.folder / "grids" / f"{dataset}-{model}.png", to_png(sample_grid(samples)))
    write_atomically(store.folder / "grids" / f"{dataset}.png", to_png(contact_sheet(shown)))
    return len(shown) + 1


def stored_samples(folder: Path, record: Record) -> np.ndarray | None:
    """The sample set of a trial, None where it is not on this machine."""
    import numpy as np

    path = folder / "artifacts" / record.trial / SAMPLES
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        return archive["samples"]


def setting(records: list[Record]) -> Mapping[str, str]:
    """What footnotes say of the machine and the protocol, from the records of one data set themselves."""
    complete = [record for record in records if record.status == "complete"]
    if not complete:
        return {}
    last = complete[-1]
    hardware = last.provenance.get("hardware", {})
    versions = last.provenance.get("versions", {})
    device = hardware.get("gpu") or f"{hardware.get('cpu', '?')}, {hardware.get('cores', '?')} cores"
    dtypes = sorted(
        {str(r.training.get("precision", "")).partition(":")[0] for r in complete if "precision" in r.training}
    )
    about = {
        "device": f"{device}, {last.provenance.get('threads', '?')} threads",
        "precision": ", ".join(dtypes) or "float32",
        "versions": f"torch {versions.get('torch', '?')}, gen-bench {versions.get('gen-bench', '?')}",
    }
    if extractors := extractor_names(last.config):
        about["extractor"] = f"{extractors} ({last.training.get('extractor_version', '')})"
    if samples := sorted({int(r.config["samples"]) for r in complete if "samples" in r.config}):
        about["samples scored a trial"] = " or ".join(f"{n:,}" for n in samples)
    if without := _why_no_energy(complete):
        about["energy"] = without
    return about


def _why_no_energy(records: list[Record]) -> str | None:
    """Why no trial has an energy; None where one has, or where no trial says."""
    if any(
        "_energy_" in fields.name and fields.value is not None for record in records for fields in record.measurements
    ):
        return None
    said = dict.fromkeys(str(record.training.get("energy", "")) for record in records)
    reasons = [text.removeprefix(NOT_MEASURED) for text in said if text.startswith(NOT_MEASURED)]
    return f"not measured ({', '.join(reasons)})" if reasons else None


def rank_by(records: list[Record]) -> str | None:
    """What the suite ranks by; None (the default) where no record has measured it."""
    wanted = next((record.config.get("rank_by") for record in reversed(records)), None)
    measured = {fields.name for record in records for fields in record.measurements}
    return wanted if wanted in measured else None


def columns(records: list[Record]) -> list[str]:
    """What the suite wants in the first table; nothing: by importance."""
    return list(next((record.config.get("columns") or [] for record in reversed(records)), []))


def objectives(records: list[Record]) -> list[str] | None:
    """What the suite declares for the Pareto front, as far as it was measured; None (the default) where it declares nothing."""
    wanted = next((record.config.get("objectives") for record in reversed(records)), None)
    measured = {fields.name for record in records for fields in record.measurements}
    return [name for name in wanted if name in measured] or None if wanted else None
