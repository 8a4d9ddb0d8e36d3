"""Records -> cells: one metric of one (data set, model), its value for every seed, and all that must agree on both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from bench.gate.sides import Side
from bench.record import MeasurementFields, Record, extractor_names

Key = tuple[str, str, str]
"""(suite, data set, model)."""

MACHINE_UNITS = frozenset({"s", "ms", "us", "ns", "min", "h", "B", "KiB", "MiB", "GiB", "J", "Wh", "kWh", "W", "gCO2"})
MACHINE_NAMES = ("training_mfu", "sampling_mfu", "data_loading_share", "best_sample_batch", "cost_per")
"""Costs that depend on the machine, by unit (also a rate, ``images/s``, and a share, ``J/image``) and, where the unit does not say so,
by name or the beginning of it. All others are counts and courses of training."""

COUNTED_NAMES = ("nfe", "parameters", "training_flops", "sampling_flops")
"""Costs that the model alone decides: the same however long it was trained, and on every machine."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """values: seed -> value of the trials that completed. errors: seed -> standard error of one sample set, where it is known.

    samples: seed -> digest of the sample set. facts: what must agree on both sides -> the different values on this one.
    hardware: whether the number depends on the machine. trials: (seed, trial, start) of every value: the same trials are the same
    measurement.
    """

    metric: str
    unit: str
    direction: str
    hardware: bool
    values: Mapping[int, float]
    errors: Mapping[int, float]
    samples: Mapping[int, str]
    facts: Mapping[str, tuple[str, ...]]
    trials: frozenset[tuple[int, str, str]]


@dataclasses.dataclass(frozen=True)
class Row:
    """A (data set, model) of one side: its cells by metric, and its trials that did not complete."""

    key: Key
    role: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]
    failures: tuple[str, ...]


def rows_of(side: Side) -> dict[Key, Row]:
    """The rows of a side. A side that was narrowed to one model has its rows under the model name ``""``."""
    groups: dict[Key, list[Record]] = {}
    for record in side.records:
        model = "" if side.model is not None else record.model
        groups.setdefault((record.suite, record.dataset, model), []).append(record)
    return {key: _row(key, records) for key, records in groups.items()}


def matched(base: Mapping[Key, Row], head: Mapping[Key, Row]) -> list[tuple[Row | None, Row | None]]:
    """Rows of both sides that belong together, in the order of base; suites of different names match if each side has one."""
    suites = [{key[0] for key in side} for side in (base, head)]
    alike = all(len(names) == 1 for names in suites)

    def plain(side: Mapping[Key, Row]) -> dict[Key, Row]:
        return {("" if alike else key[0], *key[1:]): row for key, row in side.items()}

    a, b = plain(base), plain(head)
    return [(a.get(key), b.get(key)) for key in dict.fromkeys([*a, *b])]


def _row(key: Key, records: Sequence[Record]) -> Row:
    complete = [record for record in records if record.status == "complete"]
    failures = tuple(
        f"seed {record.seed} {record.status}{f' ({record.reason})' if record.reason else ''}"
        for record in records
        if record.status != "complete"
    )
    metrics = dict.fromkeys(fields.name for record in complete for fields in record.measurements)
    cells = {metric: cell for metric in metrics if (cell := _cell(metric, complete)) is not None}
    return Row(key, records[0].role, tuple(sorted(record.seed for record in records)), cells, failures)


def _cell(metric: str, records: Iterable[Record]) -> Cell | None:
    found = [
        (record, fields)
        for record in records
        for fields in record.measurements
        if fields.name == metric and fields.value is not None
    ]
    if not found:
        return None
    unit, direction = found[0][1].unit, found[0][1].direction
    hardware = found[0][1].source == "cost" and depends_on_machine(metric, unit)
    each = [_facts(record, fields, hardware) for record, fields in found]
    return Cell(
        metric=metric,
        unit=unit,
        direction=direction,
        hardware=hardware,
        values={record.seed: float(fields.value) for record, fields in found if fields.value is not None},
        errors={record.seed: error for record, fields in found if (error := _standard_error(fields)) is not None},
        samples={record.seed: record.artifacts["samples"] for record, _ in found if "samples" in record.artifacts},
        facts={name: tuple(dict.fromkeys(facts[name] for facts in each if name in facts)) for name in each[0]},
        trials=frozenset((record.seed, record.trial, record.started) for record, _ in found),
    )


def depends_on_machine(metric: str, unit: str) -> bool:
    """Whether a cost is another one on another machine: times, memory, energy, money and what is computed from them."""
    return unit.endswith("/s") or unit.partition("/")[0] in MACHINE_UNITS or _begins(metric, MACHINE_NAMES)


def _facts(record: Record, fields: MeasurementFields, hardware: bool) -> dict[str, str]:
    """What must agree before this number may be compared with another; ``protocol`` covers what has no name of its own.

    The protocol of costs is left out: it holds the environment, which only some of them depend on, and nothing else without a name.
    """
    config, cost = record.config, fields.source == "cost"
    facts = {"budget": " and ".join(f"{amount:g} {unit}" for unit, amount in record.budget.items())}
    if "data_digest" in config:
        facts["data"] = str(config["data_digest"])[:12]
    if cost:
        facts |= {
            name.replace("_", " "): str(config[name]) for name in ("batch_size", "sample_batch") if name in config
        }
    if not hardware and "samples" in config:
        facts["n"] = str(config["samples"])
    extractors = extractor_names(config)
    if extractors and not cost:
        facts["extractor"] = f"{extractors} {record.training.get('extractor_version', '')}".strip()
    counted = cost and _begins(fields.name, COUNTED_NAMES)
    more_or_less_training = "seconds" in record.budget and not counted  # on another machine
    if hardware or more_or_less_training:
        facts["environment"] = environment_text(record)
    facts["protocol"] = "" if cost else fields.protocol
    return facts


def _begins(metric: str, names: Sequence[str]) -> bool:
    return any(metric == name or metric.startswith(f"{name}_") for name in names)


def environment_text(record: Record) -> str:
    """The machine in words, with the hash that decides whether two are the same."""
    hardware = record.provenance.get("hardware", {})
    machine = hardware.get("gpu") or hardware.get("cpu")
    torch = record.provenance.get("versions", {}).get("torch", "?")
    said = f", {machine}, {record.provenance.get('threads', '?')} threads, torch {torch}" if machine else ""
    return f"{record.environment}{said}"


def _standard_error(fields: MeasurementFields) -> float | None:
    if fields.low is None or fields.high is None or fields.interval == "exact":
        return None
    return (fields.high - fields.low) / (2 * 1.96)
