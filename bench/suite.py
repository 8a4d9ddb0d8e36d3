"""benchmarks.toml -> typed, validated Suite -> Trials. Every wrong input is one sentence with file, key and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench import registry
from bench.config_file import read_toml
from bench.errors import BenchError, did_you_mean
from bench.extractor_names import extractor_source
from bench.measured_names import likely_names, may_measure, measured_by
from bench.prices import Price

BUDGET_UNITS = ("seconds", "images", "steps", "flops")
BASELINES = ["copy-train", "gaussian", "mean", "noise"]
FLOOR = "floor"
CURVE_METRICS = ("frechet", "kernel")
"""The metrics that are scored along a curve: cheap, and comparable at every point."""

Name = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


SEEDS = 2**32
"""Seeds are whole numbers from 0 to one less: what every random generator takes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelVariant(_Strict):
    """``[models.NAME]``: a registered model (or a class named directly) with its configuration."""

    model: str | None = Field(None, description="name of a registered model; defaults to the variant's own name")
    class_: str | None = Field(None, alias="class", description="a class named directly: 'my_pkg.my_model:MyVAE'")
    config: dict[str, Any] = Field(default_factory=dict, description="options of the model's Config")

    @model_validator(mode="after")
    def _one_source(self) -> ModelVariant:
        if self.model and self.class_:
            raise ValueError("give either 'model' or 'class', not both")
        if self.class_ and ":" not in self.class_:
            raise ValueError(f"'class' must read 'module:Class', got '{self.class_}'")
        return self


class DatasetVariant(_Strict):
    """``[datasets.NAME]``: a registered data set (or a class named directly) with its options."""

    dataset: str | None = Field(None, description="name of a registered data set; defaults to the variant's own name")
    class_: str | None = Field(None, alias="class", description="a class named directly: 'my_pkg.my_data:MyData'")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the data set")

    @model_validator(mode="after")
    def _one_source(self) -> DatasetVariant:
        if self.dataset and self.class_:
            raise ValueError("give either 'dataset' or 'class', not both")
        if self.class_ and ":" not in self.class_:
            raise ValueError(f"'class' must read 'module:Class', got '{self.class_}'")
        return self


class Choice(_Strict):
    """A registered extractor or metric with options: ``{ name = "prdc", k = 3 }`` or just its name."""

    model_config = ConfigDict(extra="allow")  # the rest is inherited
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Budget(_Strict):
    """What training may spend: exactly one of seconds, images (samples seen), steps, flops."""

    seconds: float | None = Field(None, gt=0, strict=False)
    images: int | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    flops: float | None = Field(None, gt=0, strict=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        given = [unit for unit in BUDGET_UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a budget has exactly one of {', '.join(BUDGET_UNITS)}; got {' and '.join(given) or 'none'}"
            )
        return self

    @property
    def unit(self) -> str:
        return next(unit for unit in BUDGET_UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


class Target(_Strict):
    """A quality to reach: ``{ metric = "kid_effnetlite0", value = 0.05 }``."""

    metric: str
    value: float = Field(strict=False)


class Suite(_Strict):
    """``[suites.NAME]``: data sets x models x seeds under one budget, and how they are scored."""

    description: str = ""
    datasets: list[str] = Field(min_length=1)
    models: list[str] = Field(min_length=1)
    baselines: list[str] = Field(default_factory=lambda: list(BASELINES), description="rows that every table shows")
    seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    budget: Budget
    batch_size: int = Field(128, gt=0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the weight average; 0 switches it off")
    samples: int = Field(500, ge=2, description="size of the sample set that is scored")
    sample_batch: int = Field(128, gt=0, description="batch size of sampling")
    extractor: list[Choice] = Field(
        default_factory=lambda: [Choice(name="effnetlite0")],
        description="features for the metrics: one network, or several, the first of which ranks; 'none' for no network",
    )
    metrics: list[Choice] = Field(min_length=1)
    rank_by: str | None = Field(
        None, description="measurement that ranks the leaderboard; default: the kernel distance"
    )
    objectives: list[str] = Field(
        default_factory=list,
        description="measurements of the Pareto front and the mean rank; default: rank_by and the sampling throughput",
    )
    columns: list[str] = Field(
        default_factory=list,
        description="measurements of the leaderboard's first table, in this order; default: by importance",
    )
    timeout: float = Field(3600, gt=0, strict=False, description="seconds after which a trial is stopped")
    compile: bool = Field(False, description="run every network through torch.compile; its seconds are reported apart")
    checkpoint_every: float | None = Field(
        None,
        gt=0,
        strict=False,
        description="seconds between checkpoints from which a killed trial goes on; without it, it begins anew",
    )
    checkpoints: int = Field(
        0, ge=0, le=20, description="score the model at so many points of training, at 1/2, 1/4, 1/8 ... of the budget"
    )
    target: Target | None = Field(
        None, description="quality whose time to reach is reported, where there are checkpoints"
    )
    batch_sweep: list[Annotated[int, Field(gt=0)]] = Field(
        default_factory=list, description="batch sizes at which sampling is timed"
    )
    nfe_sweep: list[Annotated[int, Field(gt=0)]] = Field(
        default_factory=list,
        description="numbers of sampling steps at which models that take steps are scored and timed",
    )

    @model_validator(mode="after")
    def _curves_need_distances(self) -> Suite:
        if (self.checkpoints or self.nfe_sweep) and not any(metric.name in CURVE_METRICS for metric in self.metrics):
            raise ValueError(
                f"'checkpoints' and 'nfe_sweep' need {' or '.join(CURVE_METRICS)} among the metrics; add one of them"
            )
        return self

    @field_validator("extractor", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if value == "none":
            return []
        return cls._names_alone(value if isinstance(value, list) else [value])

    @field_validator("metrics", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return (
            [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
        )

    @field_validator("metrics", "extractor")
    @classmethod
    def _each_once(cls, value: list[Choice]) -> list[Choice]:
        names = [choice.name for choice in value]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(
                f"'{repeated}' stands twice in the list, but its measurements would have the same names: name it once, and put "
                "other options into a suite of their own"
            )
        return value

    @field_validator("seeds", "datasets", "models", "baselines", "batch_sweep", "nfe_sweep")
    @classmethod
    def _no_repeats(cls, value: list[Any]) -> list[Any]:
        repeated = sorted({str(item) for item in value if value.count(item) > 1})
        if repeated:
            raise ValueError(f"'{repeated[0]}' stands twice in the list; name each once")
        return value


class GateMetric(_Strict):
    """One member of the gated family: which measurement, how much worse it may get, which way is better."""

    metric: str
    margin: str | None = Field(
        None,
        pattern=r"^[0-9]+(\.[0-9]+)?%?$",
        description="'5%' (relative) or '0.02' (absolute); default: 5 %, for speed at least twice the stored noise of the machine",
    )
    direction: Literal["higher", "lower"]


class Gate(_Strict):
    """``[gate]``: the measurements that CI must not let regress, as one family with one false-alarm rate."""

    suite: str
    alpha: float = Field(0.01, gt=0, lt=1, description="family-wise false-alarm rate")
    metrics: list[GateMetric] = Field(min_length=1)


class Config(_Strict):
    """The whole of benchmarks.toml."""

    suites: dict[Name, Suite]
    models: dict[Name, ModelVariant] = Field(default_factory=dict)
    datasets: dict[Name, DatasetVariant] = Field(default_factory=dict)
    gate: Gate | None = None
    prices: list[Price] = Field(default_factory=list)

    def suite(self, name: str) -> Suite:
        if name not in self.suites:
            raise BenchError(f"no suite '{name}' in the config; {did_you_mean(name, self.suites)}")
        return self.suites[name]

    def model_source(self, name: str) -> tuple[str, dict[str, Any]]:
        """A model's target ``module:Class`` and its config, by variant or registered name."""
        variant = self.models.get(name, ModelVariant())
        return registry.find("model", variant.class_ or variant.model or name).target, dict(variant.config)

    def dataset_source(self, name: str) -> tuple[str, dict[str, Any]]:
        """A data set's target ``module:Class`` and its options, by variant or registered name."""
        variant = self.datasets.get(name, DatasetVariant())
        return registry.find("dataset", variant.class_ or variant.dataset or name).target, dict(variant.options)


def load_config(path: Path) -> Config:
    """Read and validate a config file; every name in it must be known. Raises BenchError with one sentence."""
    raw = read_toml(path)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise BenchError(f"{path}: {_sentence(error)}") from None
    _check_names(config, path)
    return config


def _sentence(error: ValidationError) -> str:
    problems = error.errors()
    text, more = _one_problem(problems[0]), len(problems) - 1
    return f"{text}; and {more} more problem{'s' if more > 1 else ''}" if more else text


def _one_problem(problem: Any) -> str:
    place = [str(part) for part in problem["loc"] if part != "[key]"]
    key = _key_path(problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            return (
                f"unknown key '{place[-1]}' in [{'.'.join(place[:-1])}]; {did_you_mean(place[-1], _known_keys(place))}"
            )
        case "missing":
            return f"key '{key}' is missing; add it"
        case "value_error":
            return f"key '{key}': {problem['ctx']['error']}"
        case _:
            said = problem["msg"][0].lower() + problem["msg"][1:]
            got = problem["input"]
            shown = "" if isinstance(got, dict | list) else f", got {got!r}"
            return f"key '{key}': {said}{shown}"


def _key_path(loc: tuple[Any, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    return path


def _known_keys(place: list[str]) -> list[str]:
    """The keys that the table at ``place`` may have, for did-you-mean."""
    tables: dict[tuple[str, int], type[BaseModel]] = {
        ("suites", 3): Suite,
        ("models", 3): ModelVariant,
        ("datasets", 3): DatasetVariant,
        ("gate", 2): Gate,
        ("gate", 4): GateMetric,
        ("suites", 4): Target if place[2:3] == ["target"] else Budget,
        ("prices", 3): Price,
    }
    model = Config if len(place) == 1 else tables.get((place[0], len(place)), Config)
    return [field.alias or name for name, field in model.model_fields.items()]


def _check_measured(suite: Suite, where: str) -> None:
    """What ranks must be measured. Metrics and extractors of other packages may call their measurements anything."""
    extractors = [choice.name for choice in suite.extractor]
    asked = [] if suite.rank_by is None else [("rank_by", suite.rank_by)]
    asked += [(f"objectives[{i}]", name) for i, name in enumerate(suite.objectives)]
    asked += [] if suite.target is None else [("target.metric", suite.target.metric)]
    for key, name in asked:
        if not may_measure(name, [metric.name for metric in suite.metrics], extractors):
            known = likely_names([metric.name for metric in suite.metrics], extractors)
            raise BenchError(f"{where}.{key}': the suite does not measure '{name}'; {did_you_mean(name, known)}")


def _check_names(config: Config, path: Path) -> None:
    """Every name used must exist: models, data sets, extractors, metrics, suites."""

    def check(kind: str, name: str, where: str, variants: dict[str, Any] | None = None) -> None:
        if variants and name in variants:
            return
        try:
            registry.find(kind, name)
        except BenchError as error:
            known = {**registry.entries(kind), **(variants or {})}
            if ":" in name:
                raise
            owner = measured_by(name) if kind == "metric" else None
            remedy = f"'{name}' is measured by '{owner}'" if owner else did_you_mean(name, known)
            raise BenchError(f"{path}: key '{where}': unknown {kind} '{name}'; {remedy}") from error

    for name, variant in config.models.items():
        if not variant.class_:
            check("model", variant.model or name, f"models.{name}.model")
    for name, dataset in config.datasets.items():
        if not dataset.class_:
            check("dataset", dataset.dataset or name, f"datasets.{name}.dataset")
    for suite_name, suite in config.suites.items():
        where = f"suites.{suite_name}"
        for i, name in enumerate(suite.datasets):
            check("dataset", name, f"{where}.datasets[{i}]", config.datasets)
        for i, name in enumerate(suite.models):
            check("model", name, f"{where}.models[{i}]", config.models)
        for i, name in enumerate(suite.baselines):
            check("model", name, f"{where}.baselines[{i}]", config.models)
        for i, metric in enumerate(suite.metrics):
            check("metric", metric.name, f"{where}.metrics[{i}]")
        for i, extractor in enumerate(suite.extractor):
            key = f"{where}.extractor" + (f"[{i}]" if len(suite.extractor) > 1 else "")
            try:
                extractor_source(extractor.name, extractor.options)
            except BenchError as error:
                raise BenchError(f"{path}: key '{key}': {error}") from error
        _check_measured(suite, f"{path}: key '{where}")
    if config.gate and config.gate.suite not in config.suites:
        raise BenchError(
            f"{path}: key 'gate.suite': no suite '{config.gate.suite}'; {did_you_mean(config.gate.suite, config.suites)}"
        )
