"""How far the blocks are, on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_TITLES = {1: "stage 1: all", 2: "stage 2: suspects"}
_NAMED = 2
"""Cells of a stage that are named; of more only the number is said, so that the bar keeps its place."""


class BlockDisplay:
    """A bar for each stage; says how to go on when it is interrupted. titles: of the stages."""

    def __init__(self, title: str, titles: Mapping[int, str] = _TITLES) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("blocks"), TimeRemainingColumn(),
            console=self._console,
        )  # fmt: skip
        self._title, self._titles = title, titles
        self._tasks: dict[int, TaskID] = {}
        self._finished = 0

    def __enter__(self) -> BlockDisplay:
        self._console.print(self._title, highlight=False)
        self._progress.start()
        self._tasks[1] = self._progress.add_task(self._titles[1], total=None)
        return self

    def on_block(self, total: int, found: dict[str, Any]) -> None:
        """One more block of its stage is done, of ``total`` blocks that the stage has."""
        stage = found["stage"]
        if stage not in self._tasks:
            cells = found["cells"]
            which = ", ".join(cells) if len(cells) <= _NAMED else f"{len(cells)} models"
            self._tasks[stage] = self._progress.add_task(f"{self._titles[stage]} ({which})", total=total)
        self._progress.update(self._tasks[stage], total=total, advance=1)
        self._finished += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            self._console.print(
                f"interrupted: {self._finished} blocks finished and kept; the same command goes on from here"
            )
