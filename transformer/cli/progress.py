"""Progress on standard error: bars on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ..contracts.progress import Progress, Task
from .terminal import shown

EVERY_SECONDS = 5.0
"""Least time between two plain lines of tasks."""


def progress_for(quiet: bool) -> Progress:
    """Return the progress that fits standard error."""
    if quiet:
        return Progress()
    return BarProgress(Console(stderr=True)) if sys.stderr.isatty() else PlainProgress(_stderr)


def _stderr(line: str) -> None:
    sys.stderr.write(shown(line) + "\n")
    sys.stderr.flush()


class BarProgress(Progress):
    """Rich bars; tasks inside tasks are bars below."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Show a bar of ``total`` units while it is open."""
        outermost = self._bars is None
        if self._bars is None:
            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        bar = self._bars.add_task(shown(description), total=total, note="")
        try:
            yield _BarTask(self._bars, bar)
        finally:
            self._bars.remove_task(bar)
            if outermost:
                self._bars.stop()
                self._bars = None

    def log(self, message: str) -> None:
        """Print one line above the bars."""
        (self._bars.console if self._bars else self._console).print(Text(shown(message)))


class _BarTask(Task):
    def __init__(self, bars: Bars, bar: int) -> None:
        self._bars, self._bar = bars, bar

    def advance(self, count: int = 1, note: str = "") -> None:
        from rich.progress import TaskID

        if note:
            self._bars.update(TaskID(self._bar), advance=count, note=shown(note))
        else:
            self._bars.update(TaskID(self._bar), advance=count)


class PlainProgress(Progress):
    """Plain lines for logs and pipes."""

    def __init__(self, write: Callable[[str], None], every: float = EVERY_SECONDS) -> None:
        self._write, self._every = write, every
        self._last = time.monotonic()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Write lines of how far it is."""
        yield _PlainTask(self._now_and_then, description, total)

    def log(self, message: str) -> None:
        """Write one line."""
        self._write(message)

    def _now_and_then(self, line: str) -> None:
        """Write a line unless a task, this or another, has written one in the last few seconds."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._write(line)


class _PlainTask(Task):
    def __init__(self, write: Callable[[str], None], description: str, total: int) -> None:
        self._write, self._description, self._total, self._done = write, description, total, 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._write(f"{self._description}: {self._done}/{self._total}" + (f" ({note})" if note else ""))
