"""An unexpected error inside a run: of a run that is damaged, or a bug, whose traceback is written into the run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import HantError, StorageError


class CrashError(Exception):
    """An unexpected error; its cause is the error, ``folder`` the place for the log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


@contextmanager
def crash_log(folder: Path) -> Iterator[None]:
    """Let expected errors pass; wrap any other in a ``CrashError`` that names ``folder``.

    Raises:
        StorageError: the run was there before, and what it holds does not fit together: that is no bug.
    """
    known = (folder / "run.sqlite").is_file()
    try:
        yield
    except (HantError, OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and re.search(r"out of memory|can't allocate memory", str(error)):
            raise MemoryError from error
        flaw = _flaw(folder) if known else ""
        if flaw:
            raise StorageError(
                f"run {folder} is damaged or was changed by something else than hant: {flaw} (the command ended with "
                f"{type(error).__name__}: {error}); put a good copy of the run there, or choose a new --output"
            ) from error
        raise CrashError(folder) from error


def _flaw(folder: Path) -> str:
    from ..pipeline.flaws import flaw_of
    from ..runs.store import RunStore

    try:
        with RunStore(folder) as store:
            return flaw_of(store)
    except HantError as error:
        return str(error)
