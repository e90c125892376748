"""The run as a process sees it that only looks, or helps another one to train: it reads, and writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..errors import StorageError
from .database import check_schema, prepare
from .inside import check_inside
from .store import Records


class FollowerStore(Records):
    """A copy of the records in memory; what is put there ends with the process, and files are not written.

    So all processes of a job run the same code on the same records and come to the same decisions, while the main one
    alone holds the run. Their machines share the run's directory.
    """

    def __init__(self, root: Path | str) -> None:
        """Copy the records of the run at ``root``, which another process may have open.

        Raises:
            StorageError: there is no run there, or it cannot be read.
        """
        self.root = Path(root)
        check_inside(self.root)
        path = self.root / "run.sqlite"
        opened = path.with_name("run.sqlite-wal").exists()
        how = "mode=ro" if opened else "mode=ro&immutable=1"  # a file that nobody has open is read without a trace
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as source:
                check_schema(source, path)
                source.backup(self._db)
            prepare(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise StorageError(
                f"cannot read run {self.root}: {error}; all machines of a job need the same directory"
            ) from error

    def close(self) -> None:
        """Forget the copy."""
        self._db.close()

    def clear_scratch(self) -> None:
        """Leave the files to the main process."""

    def discard(self, relative: str) -> None:
        """Leave the file to the main process."""

    def write(self, relative: str, content: bytes | str | Callable[[Path], None]) -> Path:
        """Return where the main process writes the file."""
        return self.path(relative)
