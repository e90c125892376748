"""A bug inside a run: carries the run's directory to where the traceback is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import HantError


class CrashError(Exception):
    """An unexpected error; its cause is the error, ``folder`` the place for the log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


@contextmanager
def crash_log(folder: Path) -> Iterator[None]:
    """Let expected errors pass; wrap any other in a ``CrashError`` that names ``folder``."""
    try:
        yield
    except (HantError, OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and re.search(r"out of memory|can't allocate memory", str(error)):
            raise MemoryError from error
        raise CrashError(folder) from error
