"""`bench ...`: the commands by name, and what every wrong input comes to. Heavy imports happen inside the commands."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from bench.commands import ab, compare, coverage, gate, history, machine, rank, sanity, scores, suites, variance
from bench.commands.options import DEFECT, INTERRUPTED, OK, USAGE
from bench.errors import BenchError

# typer carries its own copy of click; the base of its usage errors is found through one of them.
UsageProblem: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="bench",
    help="One fair, statistically honest scoreboard for generative models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., int]] = {
    "run": suites.run,
    "status": suites.status,
    "list": suites.list_,
    "show": suites.show,
    "report": suites.report,
    "score": scores.score,
    "statistics": scores.statistics,
    "compare": compare.compare,
    "rank": rank.rank,
    "variance": variance.variance,
    "ab": ab.ab,
    "gate": gate.gate,
    "sanity": sanity.sanity,
    "coverage": coverage.coverage,
    "history": history.history,
    "schema": suites.schema,
    "doctor": machine.doctor,
    "noise": machine.noise,
    "scaling": machine.scaling,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


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
        _fail(f"{error.format_message().rstrip('.')} (see `{_called(error)} --help`)")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(OK)
    except OSError as error:  # a file or folder that cannot be read or written
        if error.filename is None:
            _crash()
        _fail(
            f"'{error.filename2 or error.filename}': {error.strerror}; give another path, or make room or rights for this one"
        )
    except Exception:
        _crash()


def _called(error: Any) -> str:
    """The command that a wrong call was of, as one writes it."""
    context = getattr(error, "ctx", None)
    return "bench" if context is None or context.parent is None else f"bench {context.info_name}"


def _crash() -> NoReturn:
    """A defect of the program: all that helps to find it, and a code that no gate takes for a regression."""
    traceback.print_exc()
    sys.exit(DEFECT)


def _fail(sentence: str) -> NoReturn:
    print(f"bench: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(USAGE)


if __name__ == "__main__":
    main()
