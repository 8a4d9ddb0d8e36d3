"""pytest plug-in: the fixture ``bench_trial`` trains, times and scores a model inside a user's own test and holds it against a stored
baseline with tests of significance instead of a percentage.

    def test_my_vae(bench_trial):
        trials = bench_trial(MyVAE, dataset="digits", budget="200 steps", seeds=range(5))
        trials.assert_not_worse("kid_effnetlite0", margin="10%")

``pytest --bench-update`` stores what a run measures as the baseline: a records file a test, to be committed.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import ValidationError

    from bench.record import Record
    from bench.stats.intervals import Estimate
    from bench.suite import Gate

SUITE = "pytest"
UNITS = ("steps", "images", "seconds", "flops")


class BenchWarning(UserWarning):
    """A comparison with the baseline that could not be decided."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gen-bench")
    group.addoption(
        "--bench-baseline",
        metavar="DIR",
        default="tests/bench-baseline",
        help="Folder of the stored baselines of bench_trial.",
    )
    group.addoption("--bench-update", action="store_true", help="Store what bench_trial measures as the new baseline.")


@pytest.fixture
def bench_trial(request: pytest.FixtureRequest, tmp_path: Path) -> BenchTrial:
    """Call it with a model to train, time and score it; see BenchTrial."""
    folder = Path(request.config.rootpath, request.config.getoption("--bench-baseline"))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.nodeid).strip("-")
    return BenchTrial(folder / name, tmp_path / "bench", request.config.getoption("--bench-update"))


class BenchTrial:
    """What the fixture gives. baseline: folder of this test's baseline. work: where trials run. update: store, do not compare."""

    def __init__(self, baseline: Path, work: Path, update: bool) -> None:
        self.baseline, self.work, self.update = baseline, work, update

    def __call__(
        self,
        model: str | type,
        dataset: str = "digits",
        *,
        budget: str = "100 steps",
        seeds: Iterable[int] = range(3),
        metrics: str | Sequence[str] = ("kernel",),
        config: Mapping[str, Any] | None = None,
        extractor: str = "effnetlite0",
        samples: int = 200,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> Trials:
        """Run one trial a seed, in this process.

        model: a GenerativeModel class that can be imported, or a registered name. budget: ``N steps``, ``N images`` or
        ``N seconds``; with steps the same code gives the same samples, which are then compared exactly. Raises BenchError for
        wrong input; a trial that fails fails the test.
        """
        from pydantic import ValidationError

        from bench.measure.lock import device_lock
        from bench.plan import plan
        from bench.suite import Config
        from bench.trial import run_trial

        amount, unit = _budget(budget)
        name = model if isinstance(model, str) else model.__name__
        source: dict[str, Any] = {"config": dict(config or {})}
        if not isinstance(model, str):
            source["class"] = f"{model.__module__}:{model.__qualname__}"
        suite = {
            "datasets": [dataset], "models": [name], "baselines": [], "seeds": list(seeds), "budget": {unit: amount},
            "batch_size": batch_size, "samples": samples, "sample_batch": min(samples, 50), "extractor": extractor,
            "metrics": [metrics] if isinstance(metrics, str) else list(metrics),
        }  # fmt: skip
        try:
            settings = Config.model_validate({"suites": {SUITE: suite}, "models": {name: source}})
        except ValidationError as error:
            raise BenchError(f"bench_trial: {_argument(error)}") from None
        trials = plan(settings, SUITE, device=device, models=[name])
        records = []
        for trial in trials:
            with device_lock(trial.device):  # tests that run side by side would time each other
                records.append(run_trial(trial, self.work / trial.id))
        ended = [f"seed {r.seed} {r.status}: {r.reason}" for r in records if r.status != "complete"]
        if ended:
            pytest.fail("; ".join(ended), pytrace=False)
        return Trials(tuple(records), self)


def _budget(text: str) -> tuple[float, str]:
    """``200 steps`` -> (200, ``steps``); BenchError for anything else."""
    amount, _, unit = text.strip().partition(" ")
    try:
        number = float(amount) if unit in ("seconds", "flops") else int(amount)
    except ValueError:
        number = 0
    if unit not in UNITS or not number > 0:
        raise BenchError(f"bench_trial: budget reads '200 steps', '5000 images' or '10 seconds', got '{text}'")
    return number, unit


def _argument(error: ValidationError) -> str:
    """The first thing that is wrong, by the name of the fixture's argument."""
    problem = error.errors()[0]
    names = [str(part) for part in problem["loc"] if str(part) not in ("suites", "models", SUITE)]
    return f"{'.'.join(names)}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"


@dataclasses.dataclass(frozen=True)
class Trials:
    """The records of one model, one a seed."""

    records: tuple[Record, ...]
    fixture: BenchTrial

    def frame(self) -> pd.DataFrame:
        """The tidy frame that ``bench.load_results`` gives."""
        from bench.store import to_frame

        return to_frame(list(self.records))

    def __getitem__(self, metric: str) -> Estimate:
        """Mean over seeds with its 95 % interval; KeyError where the trials did not measure it."""
        from bench.stats.intervals import t_interval

        return t_interval([float(record.get(metric)) for record in self.records])

    def assert_not_worse(self, *metrics: str, margin: str = "5%", alpha: float = 0.01) -> None:
        """Fail the test where a metric is worse than the stored baseline by more than ``margin``, with the chance of any false alarm
        at most ``alpha``. What stays open (too few seeds, another machine for speed) is a BenchWarning, never a silent pass.
        """
        family = self._family(metrics, margin, alpha)
        if self.fixture.update:
            return self._store()
        verdicts = self._judged(family)
        bad = [
            f"{line.name}: {line.verdict}, {line.reason}"
            for line in verdicts
            if line.verdict in ("worse", "missing", "failed")
        ]
        for line in verdicts:
            if line.verdict in ("inconclusive", "not comparable", "new"):
                warnings.warn(f"{line.name}: {line.verdict}, {line.reason}", BenchWarning, stacklevel=2)
        if bad:
            pytest.fail("\n".join(bad), pytrace=False)

    def _family(self, metrics: Sequence[str], margin: str, alpha: float) -> Gate:
        """What is to be judged; BenchError for names, margins and rates that cannot be."""
        from pydantic import ValidationError

        from bench.gate.judge import directed
        from bench.suite import Gate

        if not metrics:
            raise BenchError('assert_not_worse: name at least one metric, such as "kid_effnetlite0"')
        known = {fields.name: fields for fields in self.records[0].measurements}
        members = [
            {"metric": name, "margin": margin, "direction": known[name].direction} for name in directed(metrics, known)
        ]
        try:
            return Gate.model_validate({"suite": SUITE, "alpha": alpha, "metrics": members})
        except ValidationError as error:
            raise BenchError(f"assert_not_worse: {_argument(error)}") from None

    def _judged(self, family: Gate) -> Sequence[Any]:
        from bench.gate.judge import gate_sides
        from bench.gate.sides import Side, load_side

        if not self.fixture.baseline.is_dir():
            pytest.fail(
                f"no baseline in {self.fixture.baseline}; run pytest --bench-update once and commit it", pytrace=False
            )
        return gate_sides(load_side(str(self.fixture.baseline)), Side("this run", self.records), family).lines

    def _store(self) -> None:
        from bench.store import RECORDS, write_atomically

        lines = "".join(record.to_line() + "\n" for record in self.records)
        write_atomically(self.fixture.baseline / SUITE / RECORDS, lines.encode())
