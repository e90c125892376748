"""The run directory: everything one optimisation made; every stage restarts from it.

Layout: ``run.sqlite`` (records, events), ``config.toml``, ``candidates/*.safetensors``, ``checkpoints/``, outputs,
``scratch/`` while passes run.
A record is durable when ``put`` returns (SQLite in WAL mode, full sync); a file when ``write`` returns (temporary
file, fsync, rename). One writer at a time: a second process on the same run is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..contracts.record import Record
from ..contracts.store import Store
from ..errors import LoadError, StorageError
from ..tools.files import write_atomically
from .database import connect
from .inside import check_inside, inside

R = TypeVar("R", bound=Record)


_DIGEST = "sha256"
"""Name of the content's digest in the header of a safetensors file."""


class Records(Store):
    """What is in the database of a run, and where its files are. Who may write is a subclass's business."""

    root: Path
    _db: sqlite3.Connection
    _candidates_of: Store | None = None

    # records

    def put(self, key: str, record: Record) -> None:
        """Store a record under ``key``, replacing one of its kind; durable on return, its event ``put`` with it."""
        with _storage(f"record {record.kind} {key}"):
            self._db.execute(
                "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)",
                (record.kind, key, record.model_dump_json(), time.time()),
            )

    def get(self, kind: type[R], key: str) -> R | None:
        """Return the record of ``kind`` under ``key``; None if there is none."""
        with _storage(f"read {kind.kind} {key}"):
            row = self._db.execute("SELECT payload FROM record WHERE kind=? AND key=?", (kind.kind, key)).fetchone()
        return None if row is None else _read(kind, key, row[0])

    def all(self, kind: type[R]) -> dict[str, R]:
        """Return every record of ``kind`` by key, sorted by key."""
        with _storage(f"read {kind.kind}"):
            rows = self._db.execute(
                "SELECT key, payload FROM record WHERE kind=? ORDER BY key", (kind.kind,)
            ).fetchall()
        return {_text(key): _read(kind, _text(key), payload) for key, payload in rows}

    def count(self, kind: str) -> int:
        """Return how many records of the named kind there are."""
        with _storage(f"count {kind}"):
            return int(self._db.execute("SELECT count(*) FROM record WHERE kind=?", (kind,)).fetchone()[0])

    def kinds(self) -> set[str]:
        """Return the kinds of the records that there are."""
        with _storage("read records"):
            return {_text(row[0]) for row in self._db.execute("SELECT DISTINCT kind FROM record")}

    def payloads(self, kind: str) -> dict[str, str]:
        """Return the stored JSON of every record of the named kind by key, sorted by key."""
        with _storage(f"read {kind}"):
            rows = self._db.execute("SELECT key, payload FROM record WHERE kind=? ORDER BY key", (kind,)).fetchall()
        return {_text(key): _text(payload) for key, payload in rows}

    def delete(self, kind: type[Record], key: str | None = None) -> None:
        """Delete one record of a kind, or all of them."""
        with _storage(f"delete {kind.kind}"):
            if key is None:
                self._db.execute("DELETE FROM record WHERE kind=?", (kind.kind,))
            else:
                self._db.execute("DELETE FROM record WHERE kind=? AND key=?", (kind.kind, key))

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
        """Append to the run's history."""
        with _storage(f"record event {what}"):
            self._db.execute(
                "INSERT INTO event (created, what, payload) VALUES (?, ?, ?)", (time.time(), what, json.dumps(payload))
            )

    def written(self, kind: type[Record], key: str) -> datetime | None:
        """Return when the record was written (UTC); None if there is none."""
        with _storage("read a record"):
            found = self._db.execute(
                "SELECT created FROM record WHERE kind = ? AND key = ?", (kind.kind, key)
            ).fetchone()
        return None if found is None else datetime.fromtimestamp(found[0], UTC)

    def events(self, what: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Return (what, payload) of the history in order, of one sort if ``what`` is given."""
        with _storage("read events"):
            rows = self._db.execute("SELECT what, payload FROM event ORDER BY id").fetchall()
        return [(name, _event(name, payload)) for name, payload in rows if what in (None, name)]

    # files

    def path(self, relative: str) -> Path:
        """Return the path of a file of the run.

        Raises:
            StorageError: it leads out of the run.
        """
        if self._candidates_of is not None and relative.startswith("candidates/"):
            return self._candidates_of.path(relative)
        return inside(self.root, relative)

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

    def __init__(self, root: Path | str, candidates_of: Store | None = None) -> None:
        """Open or create the run at ``root``; ``candidates_of`` holds the files of its candidates, if not itself.

        Raises:
            StorageError: not writable, not a run, or open in another process.
        """
        self.root = Path(root)
        self._candidates_of = candidates_of
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
