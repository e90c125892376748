"""What passes see of a run: its records, and files by paths relative to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from .record import STUDENT, Record

R = TypeVar("R", bound=Record)


class Store(ABC):
    """Records and files of one run, as one of its students has them on its target. A context manager.

    What a record's kind declares to be of a student is that student's own, and so is every file that is not the run's;
    nobody who reads and writes need know whose.
    A record is durable when ``put`` returns, a file when ``write`` returns.
    """

    root: Path
    """The run's directory."""
    student: str = STUDENT
    """Name of the student."""
    table: str = ""
    """What tells the records of its target from those of others; empty for the target that the run was begun for."""

    @abstractmethod
    def of(self, student: str) -> Self:
        """Return the run as the named student has it, on the same target.

        Raises:
            UsageError: that is no name for a student.
        """

    @abstractmethod
    def on(self, target: str) -> Self:
        """Return the run as the student has it on the target of this fingerprint."""

    @abstractmethod
    def students(self) -> list[str]:
        """Return the names of the students that were begun, the one that need not be named first.

        Raises:
            StorageError: the run names one as no command does.
        """

    @abstractmethod
    def sharing(self) -> Sequence[Self]:
        """Return the run as each student on the same target has it."""

    @property
    def address(self) -> str:
        """The run and the student, as a command is told of them."""
        return f"{self.root}" if self.student == STUDENT else f"{self.root} --student {self.student}"

    @abstractmethod
    def put(self, key: str, record: Record) -> None:
        """Store a record under ``key``, replacing one of its kind; durable on return, its event ``put`` with it."""

    @abstractmethod
    def get(self, kind: type[R], key: str) -> R | None:
        """Return the record of ``kind`` under ``key``; None if there is none."""

    @abstractmethod
    def all(self, kind: type[R]) -> dict[str, R]:
        """Return every record of ``kind`` by key, sorted by key."""

    @abstractmethod
    def count(self, kind: str) -> int:
        """Return how many records of the named kind there are."""

    @abstractmethod
    def kinds(self) -> set[str]:
        """Return the kinds of the records that there are, whosever they are."""

    @abstractmethod
    def payloads(self, kind: str) -> dict[str, str]:
        """Return the stored JSON of every record of the named kind by key, sorted by key."""

    @abstractmethod
    def delete(self, kind: type[Record], key: str | None = None) -> None:
        """Delete one record of a kind, or all of them."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Make all puts and deletes inside durable together, or none of them."""

    @abstractmethod
    def event(self, what: str, **payload: Any) -> None:
        """Append to the run's history; what has the ``name`` of a pass belongs to whom that pass works for."""

    @abstractmethod
    def written(self, kind: type[Record], key: str) -> datetime | None:
        """Return when the record was written (UTC); None if there is none."""

    @abstractmethod
    def events(self, what: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Return (what, payload) of the history in order, without other students', of one sort if ``what`` is given."""

    @abstractmethod
    def path(self, relative: str) -> Path:
        """Return the path of a file of the run.

        Raises:
            StorageError: it leads out of the run.
        """

    @property
    @abstractmethod
    def scratch(self) -> Path:
        """Folder of files that can be made again at any time."""

    @abstractmethod
    def save_tensors(self, relative: str, tensors: Mapping[str, Tensor]) -> str:
        """Write tensors as safetensors, atomically; return the digest of their content, which the file says too."""

    @abstractmethod
    def load_tensors(self, relative: str, device: torch.device | str = "cpu", digest: str = "") -> dict[str, Tensor]:
        """Read a safetensors file of the run; ``digest`` is what its record says of its content, empty for nothing.

        Raises:
            LoadError: it is missing, damaged, or holds something else than what the run wrote there.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the database and let another process open the run."""

    @abstractmethod
    def clear_scratch(self) -> None:
        """Delete what is in the scratch folder, and the folder."""

    @abstractmethod
    def write(self, relative: str, content: bytes | str | Callable[[Path], None]) -> Path:
        """Write a file atomically: from bytes, text, or a function that fills the path it is given."""

    @abstractmethod
    def discard(self, relative: str) -> None:
        """Delete a file of the run that is of no use any more, where it is still there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
