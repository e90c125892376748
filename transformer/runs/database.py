"""The SQLite file of a run: its one schema, and opening it so that a file from elsewhere runs nothing of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from ..errors import StorageError

_TABLES = """
CREATE TABLE IF NOT EXISTS record (
  kind TEXT NOT NULL, key TEXT NOT NULL, payload TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY, created REAL NOT NULL, what TEXT NOT NULL, payload TEXT NOT NULL
);
"""
_HISTORY = """TRIGGER IF NOT EXISTS history AFTER INSERT ON record BEGIN
  INSERT INTO event (created, what, payload)
  VALUES (NEW.created, 'put', json_object('kind', NEW.kind, 'key', NEW.key));
END;
"""
"""Makes every put an event. It belongs to the connection: a file of a run holds tables only."""
_MOST_BYTES = 256 * 1024 * 1024
"""Of one record."""


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the database of a run, for reading and writing.

    Raises:
        StorageError: it is damaged, or has tables, views or triggers that hant did not make.
        sqlite3.OperationalError: disk, permissions, or another program has it locked.
    """
    database = sqlite3.connect(path, isolation_level=None)
    try:
        check_schema(database, path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        prepare(database)
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise StorageError(f"{path} is damaged or no run of hant: {error}; use a new --output directory") from error
        raise
    return database


def prepare(database: sqlite3.Connection) -> None:
    """Make the tables where they are missing, and have this connection keep the history."""
    database.executescript(f"{_TABLES} DROP TRIGGER IF EXISTS main.history; CREATE TEMP {_HISTORY}")


def check_schema(database: sqlite3.Connection, path: Path) -> None:
    """Bound what the database may ask for, and refuse one that holds anything but the tables of a run.

    Triggers, views and columns with code of a stranger's file would run inside every statement.

    Raises:
        StorageError: names what does not belong there.
    """
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    database.execute("PRAGMA trusted_schema=OFF")
    known = _known()
    for name, made in database.execute("SELECT name, type || ' ' || coalesce(sql, '') FROM sqlite_schema"):
        if known.get(name) != made:
            raise StorageError(
                f"{path} is no run of hant: its {str(made).partition(' ')[0]} {name!r} is not one that hant makes; "
                "do not use it, give another --output"
            )


@cache
def _known() -> dict[str, str]:
    """Return type and SQL of everything that hant makes, by name; runs of before have the trigger in the file."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(f"{_TABLES} CREATE {_HISTORY}")
        return dict(fresh.execute("SELECT name, type || ' ' || coalesce(sql, '') FROM sqlite_schema").fetchall())
