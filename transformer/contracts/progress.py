"""Progress of long work, shown by whoever runs the passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """One bar. The base class shows nothing."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report ``count`` finished units and, if given, a short note such as the last loss."""


class Progress:
    """A place to open tasks. The base class is silent; the command shows rich bars or plain lines."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Open a task of ``total`` units."""
        yield Task()

    def log(self, message: str) -> None:
        """Tell the user one line."""
