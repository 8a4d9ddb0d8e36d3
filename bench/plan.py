"""Suite -> trials: every (data set, model, seed) under the budget, each with an id that is a hash of its content.

Two hashes decide what a rerun has to do. The *trial id* covers whatever training and sampling depend on; the *scoring
digest* of each metric covers the metric's code, its options and the extractor. A changed metric is scored again from
the stored sample set, without retraining.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench import provenance, registry
from bench.data.base import Data, Dataset
from bench.errors import BenchError, did_you_mean
from bench.extractor_names import extractor_source
from bench.options import check_fields, check_parameters
from bench.prices import Price
from bench.suite import FLOOR, SEEDS, Config, Suite, Target

# What training and sampling run through, besides the model's own code.
HARNESS_MODULES = [
    "bench.model", "bench.space", "bench.sampling", "bench.stages.training", "bench.stages.sampling", "bench.training.batches",
    "bench.training.ema", "bench.training.loop", "bench.training.precision", "bench.training.randomness", "bench.training.result",
    "bench.training.resume",
]  # fmt: skip


class Part(BaseModel):
    """A metric or extractor as resolved from the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: str
    options: dict[str, Any] = {}
    digest: str = ""


class Trial(BaseModel):
    """One (data set, model, seed) of a suite under its budget, resolved to the last option."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    dataset: str
    dataset_target: str
    dataset_options: dict[str, Any]
    data_digest: str
    model: str
    model_target: str
    model_config_: dict[str, Any]
    code_digest: str
    family: str
    role: Literal["trained", "baseline", "floor"]
    seed: int
    budget_unit: Literal["seconds", "images", "steps", "flops"]
    budget_amount: float
    batch_size: int
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    ema: float
    samples: int
    sample_batch: int
    device: str
    extractors: tuple[Part, ...]
    metrics: tuple[Part, ...]
    rank_by: str | None
    objectives: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    timeout: float
    compile: bool = False
    checkpoint_every: float | None = None
    checkpoints: int = 0
    batch_sweep: tuple[int, ...] = ()
    nfe_sweep: tuple[int, ...] = ()
    target: Target | None = None
    prices: tuple[Price, ...] = ()
    search_path: str

    def described(self) -> dict[str, Any]:
        """The fields of a record that say which trial it is of, whatever became of it; not where the trial was run from."""
        return {
            **{
                name: getattr(self, name) for name in ("suite", "dataset", "model", "family", "role", "seed", "scoring")
            },
            "trial": self.id,
            "budget": {self.budget_unit: self.budget_amount},
            "config": json.loads(self.model_dump_json(exclude={"search_path", "timeout", "prices"})),
        }

    @property
    def id(self) -> str:
        """Sixteen hex digits over all that training and sampling depend on."""
        excluded = {
            "suite",
            "dataset",
            "model",
            "family",
            "role",
            "extractors",
            "metrics",
            "rank_by",
            "objectives",
            "columns",
            "timeout",
            "checkpoint_every",
            "target",
            "prices",
            "search_path",
        }
        content = self.model_dump(mode="json", exclude=excluded)
        content["device"] = self.device.partition(":")[0]  # cuda:1 is as good as cuda:0
        return hashlib.sha256(provenance.canonical_json(content).encode()).hexdigest()[:16]

    @property
    def scoring(self) -> dict[str, str]:
        """Metric -> digest of what its value depends on besides the sample set."""
        return {metric.name: metric.digest for metric in self.metrics}

    def __str__(self) -> str:
        return f"{self.dataset}/{self.model}/seed {self.seed}"


@functools.lru_cache(maxsize=2)
def _load_data(target: str, options_json: str) -> Data:
    dataset, options = registry.load(target), json.loads(options_json)
    if isinstance(dataset, type) and issubclass(dataset, Dataset):
        check_fields(f"data set {dataset.__name__}", dataset.Options, options)
    data: Data = dataset(**options).load()
    return data


def load_data(target: str, options: dict[str, Any]) -> Data:
    """Decode a data set; the last two stay in memory."""
    return _load_data(target, provenance.canonical_json(options))


def plan(
    config: Config,
    suite_name: str,
    *,
    device: str,
    seeds: list[int] | None = None,
    models: list[str] | None = None,
    search_path: Path | None = None,
) -> list[Trial]:
    """All trials of a suite in the order they run. Loads the data (their digest is part of the id), but no torch.

    seeds: instead of the suite's own. models: only these rows. search_path: folder from which classes named directly
    are imported.
    """
    suite = config.suite(suite_name)
    if search_path is not None and str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
    for seed in seeds or ():
        if not 0 <= seed < SEEDS:
            raise BenchError(f"--seeds: {seed} is no seed; take whole numbers from 0 to {SEEDS - 1}")
    rows = _rows(suite, models)
    extractors = tuple(_extractor(c.name, *extractor_source(c.name, c.options)) for c in suite.extractor)
    metrics = tuple(
        _metric(c.name, registry.find("metric", c.name).target, c.options, extractors, suite.samples)
        for c in suite.metrics
    )
    trials = []
    for dataset_name in suite.datasets:
        dataset_target, dataset_options = config.dataset_source(dataset_name)
        try:
            data = load_data(dataset_target, dataset_options)
        except BenchError as error:
            raise BenchError(f"data set '{dataset_name}': {error}") from None
        for seed in seeds if seeds is not None else suite.seeds:
            for role, model_name in rows:
                target, model_config = config.model_source(model_name)
                trials.append(
                    Trial(
                        suite=suite_name,
                        dataset=dataset_name,
                        dataset_target=dataset_target,
                        dataset_options=dataset_options,
                        data_digest=data.digest(),
                        model=model_name,
                        model_target=target,
                        model_config_=model_config,
                        code_digest=_trial_code(target),
                        family=registry.describe(registry.find("model", target)).get("family", "other"),
                        role=role,
                        seed=seed,
                        budget_unit=suite.budget.unit,  # type: ignore[arg-type]
                        budget_amount=suite.budget.amount,
                        batch_size=suite.batch_size,
                        precision=suite.precision,
                        ema=suite.ema,
                        samples=suite.samples,
                        sample_batch=suite.sample_batch,
                        device=device,
                        extractors=extractors,
                        metrics=metrics,
                        rank_by=suite.rank_by,
                        objectives=tuple(suite.objectives),
                        columns=tuple(suite.columns),
                        timeout=suite.timeout,
                        compile=suite.compile,
                        checkpoint_every=suite.checkpoint_every,
                        checkpoints=suite.checkpoints if role == "trained" else 0,
                        batch_sweep=tuple(suite.batch_sweep) if role == "trained" else (),
                        nfe_sweep=tuple(suite.nfe_sweep) if role == "trained" else (),
                        target=suite.target,
                        prices=tuple(config.prices),
                        search_path=str(search_path or ""),
                    )
                )
    return trials


def with_classes(model_class: Any, config: dict[str, Any], data: Data) -> dict[str, Any]:
    """``config`` with the data set's number of classes, where the model's Config has a field ``classes`` that is not set."""
    fields = {field.name for field in dataclasses.fields(model_class.Config)}
    if "classes" not in fields or config.get("classes") is not None or data.train_labels is None:
        return config
    return {**config, "classes": max(len(data.classes), int(data.train_labels.max()) + 1)}


def check_models(trials: list[Trial]) -> None:
    """Every model class must exist, accept its config and generate the data set's space, and every metric and extractor
    take their options. Imports them all."""
    for first in trials[:1]:  # all trials of a suite are scored alike
        for part in first.metrics:
            owner, metric = f"suite '{first.suite}': metric '{part.name}'", registry.load(part.target)
            check_parameters(owner, metric, part.options)
            try:
                metric(**part.options)
            except BenchError as error:
                raise BenchError(f"{owner}: {error}") from None
        for part in first.extractors:
            check_parameters(
                f"suite '{first.suite}': extractor '{part.name}'", registry.load(part.target), part.options
            )
    for trial in {(t.model, t.dataset): t for t in trials}.values():
        model_class = registry.load(trial.model_target)
        data = load_data(trial.dataset_target, trial.dataset_options)
        try:
            if not hasattr(model_class, "make_config"):
                raise BenchError(f"'{trial.model_target}' is no GenerativeModel; derive it from bench.GenerativeModel")
            model_class.make_config(**trial.model_config_)
            if not isinstance(data.space, model_class.spaces):
                able = " or ".join(kind.__name__ for kind in model_class.spaces)
                raise BenchError(f"it generates {able}, but data set '{trial.dataset}' holds {data.space}")
            if getattr(model_class, "conditions", None) == "text" and data.train_captions is None:
                raise BenchError(f"it learns from captions, but data set '{trial.dataset}' has none")
        except BenchError as error:
            raise BenchError(f"suite '{trial.suite}': model '{trial.model}': {error}") from None


def _rows(suite: Suite, only: list[str] | None) -> list[tuple[Literal["trained", "baseline", "floor"], str]]:
    """(role, model name) of every row: floor, baselines, then the models compared."""
    rows: list[tuple[Literal["trained", "baseline", "floor"], str]] = [("floor", FLOOR)]
    rows += [("baseline", name) for name in suite.baselines]
    rows += [("trained", name) for name in suite.models if name not in (*suite.baselines, FLOOR)]
    if only is None:
        return rows
    known = [name for _, name in rows]
    if not only:
        raise BenchError(f"--models names no model; {did_you_mean('', known)}")
    for name in only:
        if name not in known:
            raise BenchError(f"--models: the suite has no model '{name}'; {did_you_mean(name, known)}")
    return [row for row in rows if row[1] in only]


def _trial_code(model_target: str) -> str:
    return provenance.short_hash([registry.code_digest(model_target), registry.modules_digest(HARNESS_MODULES)])


def with_present_code(trial: Trial) -> Trial:
    """A trial read from a file keeps the digests of its own day; this one has those of the code that would score it now."""
    extractors = tuple(_extractor(part.name, part.target, part.options) for part in trial.extractors)
    metrics = tuple(_metric(m.name, m.target, m.options, extractors, trial.samples) for m in trial.metrics)
    return trial.model_copy(update={"extractors": extractors, "metrics": metrics})


def extractor_named(name: str, options: Mapping[str, Any] | None = None) -> Part:
    """The extractor of one name (see ``extractor_source``). Raises BenchError for an unknown name, options that it lacks, or one
    that it cannot do without."""
    target, given = extractor_source(name, options)
    check_parameters(f"extractor '{name}'", registry.load(target), given)
    return Part(name=name, target=target, options=given)


def _extractor(name: str, target: str, options: dict[str, Any]) -> Part:
    digest = provenance.short_hash([registry.code_digest(target), options])
    return Part(name=name, target=target, options=options, digest=digest)


def _metric(name: str, target: str, options: dict[str, Any], extractors: Sequence[Part], samples: int) -> Part:
    parts = [registry.code_digest(target), options, "+".join(part.digest for part in extractors) or None, samples]
    return Part(name=name, target=target, options=options, digest=provenance.short_hash(parts))
