"""`bench list` and `bench show`: what is registered and what a trial left behind, readable. Imports no torch to list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bench import registry
from bench.config_file import find_config, read_toml
from bench.errors import BenchError, did_you_mean

if TYPE_CHECKING:
    from bench.record import Record
    from bench.suite import Config

PIPE_WIDTH = 200
CARD_CLASSES = 10  # of a model that takes their number from its data set


def show(what: str, config_path: Path | None) -> None:
    """Print one listing: models, datasets, metrics, extractors or suites."""
    if what not in LISTINGS:
        raise BenchError(f"bench list takes what to list, not '{what}'; {did_you_mean(what, LISTINGS)}")
    _console().print(LISTINGS[what](config_path))


def _console() -> Console:
    """As wide as the terminal; wide enough for every column where a pipe or a file reads."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header == "name")
    return table


def _described(kind: str) -> list[tuple[registry.Entry, dict[str, str]]]:
    return [(entry, registry.describe(entry)) for entry in registry.entries(kind).values()]


def _models(config_path: Path | None) -> Table:
    table = _table("models", "name", "family", "description", "source")
    rows = sorted(_described("model"), key=lambda row: (row[1].get("family", ""), row[0].name))
    for entry, about in rows:
        table.add_row(entry.name, about.get("family", ""), escape(about["summary"]), escape(about.get("paper", "")))
    for name, variant in _variants("models", config_path).items():
        base = str(variant.get("class") or variant.get("model") or name)
        options = _options(variant.get("config"))
        about = registry.describe(registry.find("model", base))
        table.add_row(name, about.get("family", ""), escape(f"{base} with {options}"), "benchmarks.toml")
    return table


def _datasets(config_path: Path | None) -> Table:
    table = _table("data sets", "name", "description", "licence", "attribution")
    for entry, about in _described("dataset"):
        table.add_row(
            entry.name, escape(about["summary"]), escape(about.get("licence", "")), escape(about.get("attribution", ""))
        )
    for name, variant in _variants("datasets", config_path).items():
        base = str(variant.get("class") or variant.get("dataset") or name)
        table.add_row(name, escape(f"{base} with {_options(variant.get('options'))}"), "", "benchmarks.toml")
    return table


def _variants(kind: str, config_path: Path | None) -> dict[str, dict[str, Any]]:
    """The tables [models.NAME] or [datasets.NAME] of the config, unchecked: a listing does not wait for all of it to be right."""
    found = read_toml(find_config(config_path)).get(kind, {})
    if isinstance(found, dict) and all(isinstance(variant, dict) for variant in found.values()):
        return found
    raise BenchError(f"[{kind}] of '{find_config(config_path)}' must hold tables, as in [{kind}.my-name]")


def _options(options: Any) -> str:
    pairs = options.items() if isinstance(options, dict) else ()
    return ", ".join(f"{key} = {value!r}" for key, value in pairs) or "its defaults"


def _simple(kind: str, title: str) -> Callable[[Path | None], Table]:
    def listing(config_path: Path | None) -> Table:
        table = _table(title, "name", "description", "source")
        for entry, about in _described(kind):
            table.add_row(entry.name, escape(about["summary"]), escape(about.get("paper", "")))
        return table

    return listing


def _suites(config_path: Path | None) -> Table:
    table = _table("suites", "name", "description", "data sets", "models", "seeds", "budget", "samples")
    for name, suite in _config(config_path).suites.items():
        table.add_row(
            name,
            escape(suite.description),
            ", ".join(suite.datasets),
            ", ".join(suite.models),
            ", ".join(map(str, suite.seeds)),
            str(suite.budget),
            str(suite.samples),
        )
    return table


LISTINGS: dict[str, Callable[[Path | None], Table]] = {
    "models": _models,
    "datasets": _datasets,
    "metrics": _simple("metric", "metrics"),
    "extractors": _simple("extractor", "extractors"),
    "suites": _suites,
}


def _config(path: Path | None) -> Config:
    from bench.suite import load_config

    return load_config(find_config(path))


def show_one(what: str, config_path: Path | None, results: Path) -> None:
    """Print a model card if ``what`` names a model, else the record whose trial id begins with it."""
    config = _config(config_path)
    if what in config.models or what in registry.entries("model"):
        _console().print(model_card(what, config))
        return
    record = find_record(what, results)
    if record is None:
        known = [*config.models, *registry.entries("model")]
        raise BenchError(
            f"'{what}' is neither a model nor the id of a trial in '{results}'; {did_you_mean(what, known)}"
        )
    from bench.report.card import record_card

    _console().print(record_card(record.model_dump(mode="json")))


def find_record(beginning: str, results: Path) -> Record | None:
    """The last record whose trial id begins with ``beginning``; BenchError where several trials do."""
    from bench.store import find_stores

    try:
        stores = find_stores(results)
    except BenchError:
        return None
    found = {r.trial: r for store in stores for r in store.records() if r.trial.startswith(beginning)}
    if len(found) > 1:
        raise BenchError(
            f"{len(found)} trials begin with '{beginning}': {', '.join(sorted(found))}; give more of the id"
        )
    return next(iter(found.values()), None)


def model_card(name: str, config: Config) -> RenderableType:
    """Paper, defaults, size and known failures of a model. Imports the model to count its parameters."""
    target, options = config.model_source(name)
    about = registry.describe(registry.find("model", target))
    model_class = registry.load(target)
    head = _table(f"model {name}", "", "")
    head.show_header = False
    for label, text in (
        ("", about["summary"]),
        ("family", about.get("family", "")),
        ("paper", about.get("paper", "") or "-"),
        ("class", target),
        ("generates", ", ".join(kind.__name__ for kind in model_class.spaces)),
        ("known failures", about.get("known_failures", "") or "-"),
        *_sizes(model_class, options),
    ):
        head.add_row(f"[bold]{label}[/]", escape(text))
    settings = _table(escape("options (set in [models.NAME] config = { ... })"), "name", "value", "type")
    made = model_class.make_config(**options)
    for field in dataclasses.fields(made):
        settings.add_row(field.name, escape(repr(getattr(made, field.name))), escape(str(field.type)))
    return Group(head, settings)


def _sizes(model_class: Any, options: dict[str, Any]) -> list[tuple[str, str]]:
    """Parameters, FLOPs and capabilities at the sizes of the shipped data sets."""
    from bench.measure.size import measure_size
    from bench.model import capabilities
    from bench.space import ImageSpace

    rows, note = [], ""
    if (
        getattr(model_class.make_config(**options), "classes", 0) is None
    ):  # filled in from the data set, where there is one
        options, note = options | {"classes": CARD_CLASSES}, f" of {CARD_CLASSES} classes"
    for space in (ImageSpace(1, 16, 16), ImageSpace(1, 32, 32), ImageSpace(3, 32, 32)):
        if isinstance(space, model_class.spaces):
            model = model_class(space, **options)
            rows += [(f"{label}, {space}{note}", text) for label, text in measure_size(model).items()]
    if rows:
        rows.append(("capabilities", ", ".join(capabilities(model)) or "-"))
    return rows
