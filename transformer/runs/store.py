"""The run directory: everything one optimisation made; every stage restarts from it.

Layout: ``run.sqlite`` (records, events), ``config.toml``, ``candidates/*.safetensors``, ``checkpoints/``, outputs,
``scratch/`` while passes run. A student with a name has files of its own in ``students/NAME``, and its records beside
those of the run, under ``KIND@NAME``; records of a further target stand under ``KIND:FINGERPRINT``.
A record is durable when ``put`` returns (SQLite in WAL mode, full sync); a file when ``write`` returns (temporary
file, fsync, rename). One writer at a time: a second process on the same run is refused.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..contracts.record import STUDENT, Record, Scope, scope_of
from ..contracts.store import Store
from ..errors import LoadError, StorageError
from ..tools.files import write_atomically
from .database import connect
from .inside import check_inside, inside
from .records import NamedRecord, PassRecord
from .students import check_name, folder

R = TypeVar("R", bound=Record)


_DIGEST = "sha256"
"""Name of the content's digest in the header of a safetensors file."""
_COMMON = ("candidates", "shared", "scratch", "network.json", "run.seal")
"""Files and folders that all students of a run have in common."""
_OF = "whose"
"""What of an event tells whose it is."""
_SCOPES = (Scope.RUN, Scope.TARGET, Scope.STUDENT, Scope.TARGET | Scope.STUDENT)
_FIRST = ("network_latency", "teacher")
"""The record that tells which target a run was begun for: the one on which the teacher was timed first."""


class Records(Store):
    """What is in the database of a run, and where its files are. Who may write is a subclass's business."""

    root: Path
    _db: sqlite3.Connection

    # whose

    def of(self, student: str) -> Self:
        """Return the run as the named student has it, on the same target.

        Raises:
            UsageError: that is no name for a student.
        """
        other = copy.copy(self)  # one database, one lock
        other.student = check_name(student)
        return other

    def on(self, target: str) -> Self:
        """Return the run as the student has it on the target of this fingerprint."""
        first = self._first_target()
        table = "" if first == target or (first is None and not self._has(target)) else target
        if table == self.table:
            return self
        other = copy.copy(self)
        other.table = table
        return other

    def students(self) -> list[str]:
        """Return the names of the students that were begun, the one that need not be named first.

        Raises:
            StorageError: the run names one as no command does.
        """
        named = [kind.partition("@")[2] for kind in self._stored_kinds() if kind.startswith(f"{NamedRecord.kind}@")]
        for name in named:
            check_name(name, StorageError, f"run {self.root} names a student ")
        return [STUDENT, *sorted(named)]

    def sharing(self) -> Sequence[Self]:
        """Return the run as each student on the same target has it."""
        others = [self.of(name) for name in self.students()]
        tables = [record.table if (record := other.get(NamedRecord, NamedRecord.kind)) else "" for other in others]
        return [other for other, table in zip(others, tables, strict=True) if table == self.table]

    def _first_target(self) -> str | None:
        """Return the fingerprint of the target that the run was begun for; None while that is open."""
        with _storage("read records"):
            row = self._db.execute("SELECT payload FROM record WHERE kind=? AND key=?", _FIRST).fetchone()
        try:
            return None if row is None else json.loads(row[0])["provenance"]["target"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None  # nothing says that it is another one; whoever reads the record says what is wrong with it

    def _has(self, target: str) -> bool:
        """Return whether there are records of this target under its own fingerprint."""
        return any(f":{target}" in kind for kind in self._stored_kinds())

    def _stored_kinds(self) -> list[str]:
        with _storage("read records"):
            return [_text(row[0]) for row in self._db.execute("SELECT DISTINCT kind FROM record")]

    def _mark(self, scope: Scope) -> str:
        """Return what follows the kind of records of this scope where they are stored."""
        table = f":{self.table}" if self.table and Scope.TARGET in scope else ""
        return table + (f"@{self.student}" if self.student != STUDENT and Scope.STUDENT in scope else "")

    def _mark_of(self, kind: str, key: str) -> str:
        """Return what follows the named kind where the record under ``key`` is stored."""
        unmarked = not self.table and self.student == STUDENT  # as most are: then nobody need know whose it is
        return "" if unmarked else self._mark(scope_of(kind, key))

    def _stored(self, kind: type[Record], key: str) -> tuple[str, str]:
        """Return the kind and key under which a record is stored."""
        return kind.kind + self._mark_of(kind.kind, key), key

    def _rows(self, kind: str, column: str = "payload") -> list[tuple[str, str, Any]]:
        """Return (stored kind, key, what is in the column) of the records of the named kind, sorted by key."""
        places = {kind + self._mark(scope): None for scope in _SCOPES}
        with _storage(f"read {kind}"):
            rows = self._db.execute(
                f"SELECT kind, key, {column} FROM record WHERE kind IN ({','.join('?' * len(places))}) ORDER BY key",
                tuple(places),
            ).fetchall()
        keyed = ((place, _text(key), value) for place, key, value in rows)
        return [row for row in keyed if row[0] == kind + self._mark_of(kind, row[1])]

    # records

    def put(self, key: str, record: Record) -> None:
        """Store a record under ``key``, replacing one of its kind; durable on return, its event ``put`` with it."""
        with _storage(f"record {record.kind} {key}"):
            self._db.execute(
                "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)",
                (*self._stored(type(record), key), record.model_dump_json(), time.time()),
            )

    def get(self, kind: type[R], key: str) -> R | None:
        """Return the record of ``kind`` under ``key``; None if there is none."""
        with _storage(f"read {kind.kind} {key}"):
            row = self._db.execute(
                "SELECT payload FROM record WHERE kind=? AND key=?", self._stored(kind, key)
            ).fetchone()
        return None if row is None else _read(kind, key, row[0])

    def all(self, kind: type[R]) -> dict[str, R]:
        """Return every record of ``kind`` by key, sorted by key."""
        return {key: _read(kind, key, payload) for _, key, payload in self._rows(kind.kind)}

    def count(self, kind: str) -> int:
        """Return how many records of the named kind there are."""
        return len(self._rows(kind, "key"))

    def kinds(self) -> set[str]:
        """Return the kinds of the records that there are, whosever they are."""
        return {_plain(kind) for kind in self._stored_kinds()}

    def payloads(self, kind: str) -> dict[str, str]:
        """Return the stored JSON of every record of the named kind by key, sorted by key."""
        return {key: _text(payload) for _, key, payload in self._rows(kind)}

    def delete(self, kind: type[Record], key: str | None = None) -> None:
        """Delete one record of a kind, or all of them."""
        places = [self._stored(kind, key)] if key is not None else [row[:2] for row in self._rows(kind.kind, "key")]
        with nullcontext() if self._db.in_transaction else self.transaction(), _storage(f"delete {kind.kind}"):
            self._db.executemany("DELETE FROM record WHERE kind=? AND key=?", places)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all puts and deletes inside durable together, or none of them."""
        with _storage("write records"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def event(self, what: str, **payload: Any) -> None:
        """Append to the run's history; what has the ``name`` of a pass belongs to whom that pass works for."""
        mark = self._mark_of(PassRecord.kind, payload["name"]) if "name" in payload else ""
        payload |= {_OF: mark} if mark else {}
        with _storage(f"record event {what}"):
            self._db.execute(
                "INSERT INTO event (created, what, payload) VALUES (?, ?, ?)", (time.time(), what, json.dumps(payload))
            )

    def written(self, kind: type[Record], key: str) -> datetime | None:
        """Return when the record was written (UTC); None if there is none."""
        with _storage("read a record"):
            found = self._db.execute(
                "SELECT created FROM record WHERE kind = ? AND key = ?", self._stored(kind, key)
            ).fetchone()
        return None if found is None else datetime.fromtimestamp(found[0], UTC)

    def events(self, what: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Return (what, payload) of the history in order, without other students', of one sort if ``what`` is given."""
        with _storage("read events"):
            rows = self._db.execute("SELECT what, payload FROM event ORDER BY id").fetchall()
        told = [(name, _event(name, payload)) for name, payload in rows if what in (None, name)]
        return [(name, self._unmarked(name, facts)) for name, facts in told if self._concerns(name, facts)]

    def _concerns(self, what: str, facts: dict[str, Any]) -> bool:
        """Return whether an event is of the run, or of this student and target."""
        if what == "put":
            kind = str(facts.get("kind"))
            return kind == _plain(kind) + self._mark_of(_plain(kind), str(facts.get("key")))
        mark = self._mark_of(PassRecord.kind, str(facts["name"])) if "name" in facts else ""
        return bool(facts.get(_OF, "") == mark)

    @staticmethod
    def _unmarked(what: str, facts: dict[str, Any]) -> dict[str, Any]:
        plain = {name: value for name, value in facts.items() if name != _OF}
        return plain | {"kind": _plain(str(facts.get("kind")))} if what == "put" else plain

    # files

    def path(self, relative: str) -> Path:
        """Return the path of a file of the run.

        Raises:
            StorageError: it leads out of the run.
        """
        common = relative.partition("/")[0] in _COMMON
        return inside(self.root if common else folder(self.root, self.student), relative)

    @property
    def scratch(self) -> Path:
        """Folder of files that can be made again at any time."""
        return self.path("scratch")

    def save_tensors(self, relative: str, tensors: Mapping[str, Tensor]) -> str:
        """Write tensors as safetensors, atomically; return the digest of their content, which the file says too."""
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        digest = tensors_digest(plain)
        self.write(relative, lambda path: save_file(plain, path, {_DIGEST: digest}))
        return digest

    def load_tensors(self, relative: str, device: torch.device | str = "cpu", digest: str = "") -> dict[str, Tensor]:
        """Read a safetensors file of the run; ``digest`` is what its record says of its content, empty for nothing.

        Raises:
            LoadError: it is missing, damaged, or holds something else than what the run wrote there.
        """
        path = self.path(relative)
        try:
            tensors = dict(load_file(path))
            with safe_open(path, framework="pt") as opened:
                said = (opened.metadata() or {}).get(_DIGEST, "")
        except (OSError, SafetensorError) as error:
            raise LoadError(f"cannot read {path}: {error}; delete it and give the same command again") from error
        known = {value for value in (digest, said) if value}
        if known and known != {tensors_digest(tensors)}:
            raise LoadError(
                f"cannot read {path}: its content is not what the run wrote; delete it and give the same command again"
            )
        return {name: tensor.to(device) for name, tensor in tensors.items()}


class RunStore(Records):
    """The run, held by the one process that writes. Use as a context manager, or ``close`` it."""

    def __init__(self, root: Path | str) -> None:
        """Open or create the run at ``root``.

        Raises:
            StorageError: not writable, not a run, or open in another process.
        """
        self.root = Path(root)
        with _storage(f"open run {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
            check_inside(self.root)  # before anything in it is opened; again under the lock for what is left over
            self._lock = _lock(self.root)
            try:
                for leftover in check_inside(self.root):  # of a process that was killed while it wrote
                    leftover.unlink()
                self._db = connect(self.root / "run.sqlite")
            except BaseException:
                self._lock.close()
                raise

    def close(self) -> None:
        """Close the database and let another process open the run."""
        self._db.close()
        self._lock.close()

    def clear_scratch(self) -> None:
        """Delete what is in the scratch folder, and the folder."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def write(self, relative: str, content: bytes | str | Callable[[Path], None]) -> Path:
        """Write a file atomically: from bytes, text, or a function that fills the path it is given."""
        path = self.path(relative)
        with _storage(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return path

    def discard(self, relative: str) -> None:
        """Delete a file of the run that is of no use any more, where it is still there."""
        with _storage(f"delete {self.path(relative)}"):
            self.path(relative).unlink(missing_ok=True)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a short hash of tensors on the CPU by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def _read(kind: type[R], key: str, payload: str) -> R:
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise StorageError(
            f"record {kind.kind} {key} of the run is not readable by this version of hant: {where}: "
            f"{first['msg'].lower()} ({error.error_count()} fields differ); use a new --output directory"
        ) from error


def _text(value: object) -> str:
    """Return a column's value; SQLite keeps any type in any column."""
    if not isinstance(value, str):
        raise StorageError(f"run.sqlite is damaged: {value!r:.40} is where text belongs; use a new --output directory")
    return value


def _plain(kind: str) -> str:
    """Return a stored kind without what tells whose it is."""
    return re.split("[:@]", kind, maxsplit=1)[0]


def _event(what: str, payload: str) -> dict[str, Any]:
    try:
        read = json.loads(payload)
        if isinstance(read, dict):
            return read
    except (ValueError, TypeError, RecursionError):
        pass
    raise StorageError(f"an event {what!r} in the history of the run is damaged; use a new --output directory")


def _lock(root: Path) -> IO[str]:
    # Not emptied and no link followed: the lock is all that is wanted of the file.
    handle = os.fdopen(os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise StorageError(f"run {root} is in use by another process; wait for it or give another --output") from None
    return handle


@contextmanager
def _storage(action: str) -> Iterator[None]:
    """Turn errors of disk and database into one clear line."""
    try:
        yield
    except (OSError, sqlite3.Error, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageError(f"cannot {action}: {reason}; {_remedy(reason)}, then give the same command again") from error


def _remedy(reason: str) -> str:
    if "locked" in reason:
        return "another program has run.sqlite open and locked: close it"
    if "decode" in reason or "malformed" in reason or "too big" in reason:
        return "run.sqlite is damaged: put a good copy of the run there, or choose a new --output"
    return "free the disk or fix the permissions"
