"""What `bench gate` and `bench ab` share: where verdicts go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bench.report.verdicts import Verdicts

GithubOption = Annotated[
    bool, typer.Option("--github", help="Print GitHub annotations; add the table to the step summary.")
]
JunitOption = Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")]
MarkdownOption = Annotated[Path | None, typer.Option("--markdown", help="Write Markdown for a pull request comment.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")]
BadgeOption = Annotated[Path | None, typer.Option("--badge", help="Write the JSON of a shields.io endpoint badge.")]


def publish(
    verdicts: Verdicts,
    github: bool = False,
    junit: Path | None = None,
    markdown: Path | None = None,
    json_file: Path | None = None,
    badge: Path | None = None,
) -> int:
    """Print the table, write what was asked for, return the exit code."""
    from rich.console import Console

    from bench.report.verdicts_ci import github_annotations, write_outputs
    from bench.report.verdicts_text import verdicts_markdown, verdicts_renderable

    Console().print(verdicts_renderable(verdicts))
    if github:
        print("\n".join(github_annotations(verdicts)))
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(verdicts_markdown(verdicts))
    write_outputs(verdicts, junit, markdown, json_file, badge)
    return verdicts.exit_code
