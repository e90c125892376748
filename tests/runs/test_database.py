"""The database of a run from elsewhere: nothing of its own runs, and what hant did not make is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hant.passes.ranking.records import RankRecord
from hant.transformer.errors import StorageError
from hant.transformer.runs.database import prepare
from hant.transformer.runs.follower import FollowerStore
from hant.transformer.runs.store import RunStore

RANK = RankRecord(index=0, loss=0.5, accuracy=90.0, samples=10)
ENDLESS = (
    "CREATE TRIGGER evil AFTER INSERT ON event BEGIN INSERT INTO event (created, what, payload) WITH RECURSIVE c(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 0, 'x', '{}' FROM c; END"
)


def run_with(root: Path, *statements: str) -> Path:
    RunStore(root).close()
    with closing(sqlite3.connect(root / "run.sqlite", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    return root


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ([ENDLESS], "trigger 'evil'"),
        (["CREATE TRIGGER history AFTER INSERT ON record BEGIN DELETE FROM event; END"], "trigger 'history'"),
        (["CREATE VIEW more AS SELECT * FROM record"], "view 'more'"),
        (["DROP TABLE record", "CREATE VIEW record AS SELECT 1 AS kind"], "view 'record'"),
        (["DROP TABLE event", "CREATE TABLE event (id, created, what, payload AS (id))"], "table 'event'"),
        (["CREATE INDEX i ON record (length(payload))"], "index 'i'"),
        (["CREATE TABLE more (x)"], "table 'more'"),
        (["CREATE VIRTUAL TABLE search USING fts5(x)"], "table 'search'"),
    ],
)
def test_only_the_tables_of_a_run(tmp_path: Path, statements: list[str], what: str) -> None:
    root = run_with(tmp_path / "run", *statements)
    for store in (RunStore, FollowerStore):
        with pytest.raises(
            StorageError, match=rf"run\.sqlite is no run of hant: its {what} is not one that hant makes"
        ):
            store(root)


def test_a_run_of_before_keeps_its_history_once(tmp_path: Path) -> None:
    old = (
        "CREATE TRIGGER IF NOT EXISTS history AFTER INSERT ON record BEGIN\n"
        "  INSERT INTO event (created, what, payload)\n"
        "  VALUES (NEW.created, 'put', json_object('kind', NEW.kind, 'key', NEW.key));\nEND"
    )
    with RunStore(run_with(tmp_path / "run", old)) as store:
        store.put("0", RANK)
        assert store.events("put") == [("put", {"kind": "rank", "key": "0"})]
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").fetchone() == (0,)


def test_a_follower_keeps_a_history_of_its_own(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store, FollowerStore(tmp_path / "run") as follower:
        follower.put("0", RANK)
        assert [name for name, _ in follower.events()] == ["put"]
        assert store.events() == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO record VALUES (x'00', 'a', '{}', 0)", "is where text belongs"),
        ("INSERT INTO record VALUES ('rank', x'00', '{}', 0)", "is where text belongs"),
        ("INSERT INTO record VALUES ('rank', '0', 5, 0)", "record rank 0 of the run is not readable"),
        ("INSERT INTO record VALUES ('rank', '0', x'ff', 0)", "record rank 0 of the run is not readable"),
        (
            "INSERT INTO record VALUES ('rank', '0', CAST(x'ff' AS TEXT), 0)",
            "Could not decode .* run.sqlite is damaged",
        ),
        (f"INSERT INTO record VALUES ('rank', '0', '{'[' * 9999}', 0)", "record rank 0 of the run is not readable"),
        ("INSERT INTO event VALUES (1, 0, 'put', '[]')", "an event 'put' in the history of the run is damaged"),
        (f"INSERT INTO event VALUES (1, 0, 'put', '{'[' * 99999}')", "an event 'put' .* is damaged"),
        ("INSERT INTO event VALUES (1, 0, 'put', x'ff')", "an event 'put' .* is damaged"),
    ],
)
def test_a_row_that_is_no_record_is_one_line(tmp_path: Path, statement: str, message: str) -> None:
    with RunStore(run_with(tmp_path / "run", statement)) as store, pytest.raises(StorageError, match=message) as caught:
        store.kinds(), store.events(), store.all(RankRecord)
    assert "\n" not in str(caught.value)


def test_a_database_that_another_program_has_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = run_with(tmp_path / "run"), sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **more: real(path, timeout=0.05, **more))
    with closing(real(root / "run.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            StorageError, match=r"database is locked; another program has run\.sqlite .*: close it, then"
        ):
            RunStore(root)


def test_preparing_twice_changes_nothing() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        prepare(database)
        before = database.execute("SELECT sql FROM sqlite_schema").fetchall()
        prepare(database)
        assert database.execute("SELECT sql FROM sqlite_schema").fetchall() == before
