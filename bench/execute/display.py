"""What a person sees while a suite runs: which trial, how far, how fast, how much budget is left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.plan import Trial
from bench.record import Record

QUALITY_PREFIXES = ("kid_", "fd_", "fid")


class RunDisplay:
    """A live line on a terminal, one line a finished trial everywhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._trial: Trial | None = None
        self._began = 0.0
        self._place = self._phase = ""

    def __enter__(self) -> RunDisplay:
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("[bold]{task.fields[place]}[/] {task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self, trial: Trial, number: int, total: int) -> None:
        self._trial, self._began = trial, time.monotonic()
        self._place = f"trial {number}/{total}"
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(escape(str(trial)), total=1.0, place=self._place, detail="starting")

    def event(self, event: dict[str, Any]) -> None:
        if self._progress is None or self._task is None:
            return
        if event["event"] == "phase":
            self._phase = event["phase"]
            self._progress.update(self._task, detail=escape(self._phase))
        elif event["event"] == "images":
            self._progress.update(self._task, detail=escape(f"{self._phase}: {event['done']:,}/{event['total']:,}"))
        elif event["event"] == "progress":
            self._progress.update(self._task, completed=event["share"], detail=escape(self._training_detail(event)))

    def _training_detail(self, event: dict[str, Any]) -> str:
        assert self._trial is not None
        losses = ", ".join(f"{name} {value:.3g}" for name, value in list(event.get("losses", {}).items())[:2])
        left = (1 - event["share"]) * self._trial.budget_amount
        return (
            f"step {event['step']:,}  {event['images_per_second']:,.0f} images/s  {losses}  "
            f"{left:,.4g} {self._trial.budget_unit} left"
        )

    def end(self, trial: Trial, record: Record) -> None:
        took = time.monotonic() - self._began
        line = f"{self._place}  {trial}  {took:.1f} s  "
        if record.status == "complete":
            self.console.print(f"[green]✓[/] {escape(line + _headline(record))}", highlight=False, soft_wrap=True)
        else:
            self.console.print(
                f"[red]✗[/] {escape(line)}[red]{record.status}[/]: {escape(record.reason or '')}",
                highlight=False,
                soft_wrap=True,
            )


def _headline(record: Record) -> str:
    """Throughput and the first distance: enough to see that the trial is sane."""
    parts = []
    for fields in record.measurements:
        if fields.value is None:
            continue
        if fields.name in ("training_throughput", "sampling_throughput"):
            parts.append(f"{fields.name.split('_')[0]} {fields.value:,.0f} {fields.unit}")
        elif fields.name.startswith(QUALITY_PREFIXES) and not any(p.startswith(QUALITY_PREFIXES) for p in parts):
            parts.append(f"{fields.name} {fields.value:.4g}")
    return "  ".join(parts)
