"""What a person sees while images run through an extractor: how many are done, how fast, how long it will take."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class ImageProgress:
    """A live line on a terminal, which is gone at the end; nothing at all where output goes into a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                _Images(),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
        self._task: TaskID | None = None

    def __enter__(self) -> ImageProgress:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def phase(self, text: str) -> None:
        """Something else begins."""
        if self._progress is None:
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(escape(text), total=None)

    def images(self, done: int, total: int) -> None:
        """So many images of the present phase are done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)


class _Images(ProgressColumn):
    """``1,024/50,000 images  17.3 images/s``; nothing while there is nothing to count."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        text = f"{int(task.completed):,}/{int(task.total):,} images"
        speed = task.finished_speed or task.speed
        return Text(text if not speed else f"{text}  {speed:,.{0 if speed >= 100 else 1}f} images/s")
