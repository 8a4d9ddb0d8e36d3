"""`bench run|status|list|show|report|schema`: what is run, what came out, what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.options import FAILED_TRIALS, OK, ConfigOption, ResultsOption, names_of, seeds_of
from bench.errors import BenchError


def run(
    suite: Annotated[str, typer.Argument(help="A suite of the config.")] = "quick",
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda (cuda:1 for the second).")] = "auto",
    seeds: Annotated[str | None, typer.Option(help="Training seeds instead of the suite's, e.g. 0,1,2.")] = None,
    models: Annotated[str | None, typer.Option(help="Only these rows of the suite, e.g. vae,gan.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed and diverged trials again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the trials and what each would do.")] = False,
) -> int:
    """Train, time, sample and score the models of a suite; then print the leaderboard."""
    from bench import api

    plan = api.prepare(
        suite, config=config, results=results, device=device, seeds=seeds_of(seeds), models=names_of(models)
    )
    if dry_run:
        return _print_plan(plan)
    summary = api.execute(plan, retry=retry)
    api.report(plan.store)
    return FAILED_TRIALS if summary.failed else OK


def status(
    suite: Annotated[str, typer.Argument(help="A suite of the config.")] = "quick",
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> int:
    """How many trials of a suite are finished: k/n, and what is left."""
    from bench import api

    return _print_plan(api.prepare(suite, config=config, results=results, device=device, check=False), brief=True)


def list_(
    what: Annotated[str, typer.Argument(help="models, datasets, metrics, extractors or suites.")],
    config: ConfigOption = None,
) -> int:
    """What there is, with one line of description and its source."""
    from bench.report import listing

    listing.show(what, config)
    return OK


def show(
    what: Annotated[str, typer.Argument(help="The id of a trial (or its beginning), or the name of a model.")],
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
) -> int:
    """One record, or one model card."""
    from bench.report import listing

    listing.show_one(what, config, results)
    return OK


def report(
    results: Annotated[Path, typer.Argument(help="A results folder, a suite's folder or a records file.")] = Path(
        "results"
    ),
) -> int:
    """Rewrite tables, plots and the leaderboard from the records."""
    from bench import api
    from bench.store import find_stores

    for store in find_stores(results):
        api.report(store)
    return OK


def schema(
    what: Annotated[
        str, typer.Argument(help="config (benchmarks.toml) or record (a line of records.jsonl).")
    ] = "config",
) -> int:
    """Print a JSON Schema."""
    from bench.errors import did_you_mean
    from bench.record import Record
    from bench.suite import Config

    schemas: dict[str, Any] = {"config": Config, "record": Record}
    if what not in schemas:
        raise BenchError(f"no schema '{what}'; {did_you_mean(what, schemas)}")
    print(json.dumps(schemas[what].model_json_schema(by_alias=True), indent=2))
    return OK


def _print_plan(plan: Any, brief: bool = False) -> int:
    states = plan.states()
    done = sum(state == "done" for _, state in states)
    for trial, state in states:
        if not (brief and state == "done"):
            print(f"{trial.id}  {state:<15}  {trial}  {trial.budget_amount:g} {trial.budget_unit}  on {trial.device}")
    print(f"{done}/{len(states)} trials done in {plan.store.folder}")
    return OK
