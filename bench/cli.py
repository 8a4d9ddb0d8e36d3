"""`bench ...`: one short function a command; parsing and printing only. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bench.errors import BenchError

# typer carries its own copy of click; the base of its usage errors is found through one of them.
UsageProblem: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
OK, REGRESSION, USAGE, FAILED_TRIALS, INCONCLUSIVE = 0, 1, 2, 3, 4
INTERRUPTED = 130

app = typer.Typer(
    name="bench",
    help="One fair, statistically honest scoreboard for generative models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Suites, models and data sets. [default: benchmarks.toml]")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of the results, one folder a suite.")]


def main() -> NoReturn:
    """Entry point: every wrong input is one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else OK)
    except BenchError as error:
        _fail(str(error))
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except UsageProblem as error:
        _fail(f"{error.format_message()} (see `bench --help`)")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(OK)


def _fail(sentence: str) -> NoReturn:
    print(f"bench: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(USAGE)


@app.command()
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

    plan = api.prepare(suite, config=config, results=results, device=device, seeds=_seeds(seeds), models=_names(models))
    if dry_run:
        return _print_plan(plan)
    summary = api.execute(plan, retry=retry)
    api.report(plan.store)
    return FAILED_TRIALS if summary.failed else OK


@app.command()
def status(
    suite: Annotated[str, typer.Argument(help="A suite of the config.")] = "quick",
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> int:
    """How many trials of a suite are finished: k/n, and what is left."""
    from bench import api

    return _print_plan(api.prepare(suite, config=config, results=results, device=device, check=False), brief=True)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="models, datasets, metrics, extractors or suites.")],
    config: ConfigOption = None,
) -> int:
    """What there is, with one line of description and its source."""
    from bench.report import listing

    listing.show(what, config)
    return OK


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="The id of a trial (or its beginning), or the name of a model.")],
    config: ConfigOption = None,
    results: ResultsOption = Path("results"),
) -> int:
    """One record, or one model card."""
    from bench.report import listing

    listing.show_one(what, config, results)
    return OK


@app.command()
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


@app.command()
def score(
    samples: Annotated[str, typer.Argument(help="Folder (recursive), zip, npz, npy, or the name of a data set.")],
    reference: Annotated[str, typer.Option("--reference", help="What real images look like: as SAMPLES.")],
    metrics: Annotated[str | None, typer.Option(help="Registered metrics with commas between them.")] = None,
    extractor: Annotated[str, typer.Option(help="A registered extractor.")] = "effnetlite0",
    train: Annotated[str | None, typer.Option(help="What the model learned from: as SAMPLES.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights, where it ships none.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
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
            _names(metrics) or DEFAULT_METRICS,
            extractor,
            train,
            extractor_options={} if weights is None else {"weights": str(weights)},
            device=resolve_device(device),
            strict=strict,
            config=config,
            on_phase=progress.update,
        )
    Console().print(scores_renderable(scores))
    if json_file is not None:
        write_atomically(json_file, scores_json(scores).encode())
    return OK


@app.command()
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


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"--seeds takes whole numbers with commas between them, got '{text}'") from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise BenchError(f"--seeds takes different numbers from 0 up, got '{text}'")
    return seeds


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _print_plan(plan: Any, brief: bool = False) -> int:
    states = plan.states()
    done = sum(state == "done" for _, state in states)
    for trial, state in states:
        if not (brief and state == "done"):
            print(f"{trial.id}  {state:<15}  {trial}  {trial.budget_amount:g} {trial.budget_unit}  on {trial.device}")
    print(f"{done}/{len(states)} trials done in {plan.store.folder}")
    return OK


if __name__ == "__main__":
    main()
