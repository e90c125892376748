"""A run holds students by name: what is whose, where it lies, and names that are none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hant.passes.latency.records import LatencyModelRecord, NetworkLatencyRecord
from hant.passes.ranking.records import RankRecord
from hant.passes.scoring.records import ScoreRecord
from hant.transformer.contracts.pass_ import Pass, pass_scope
from hant.transformer.contracts.record import Record, Scope, scope_of
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import StorageError, UsageError
from hant.transformer.plugins import load_plugin, registered
from hant.transformer.runs.follower import FollowerStore
from hant.transformer.runs.records import NamedRecord, PassRecord
from hant.transformer.runs.store import RunStore

SCORE = ScoreRecord(block="a", operation="b", delta=0.1, accuracy=90.0, samples=10)
FORGED = ["", ".", "..", "../x", "a/b", "/a", "a\\b", "a b", "-a", ".a", "a\n", "a\0", "ä", "a@b", "a:b", "a" * 65]


def rank(index: int) -> RankRecord:
    return RankRecord(index=index, loss=0.5, accuracy=90.0, samples=10)


def passed(name: str) -> PassRecord:
    return PassRecord(fingerprint=name, options={}, seconds=0.0)


def teacher(target: str, ms: float = 1.0) -> NetworkLatencyRecord:
    timing = Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms)
    return NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance={"target": target})


def model(ms: float) -> LatencyModelRecord:
    return LatencyModelRecord(fixed_ms=0, slope=1, teacher_ms=ms, networks=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run") as opened:
        yield opened


def test_a_students_records_are_its_own_and_the_runs_are_everyones(store: RunStore) -> None:
    small, large = store.of("small"), store.of("large")
    for index, student in enumerate((store, small, large)):
        student.put("0", rank(index))
    small.put("a/b", SCORE)
    assert [student.get(RankRecord, "0") for student in (store, small, large)] == [rank(0), rank(1), rank(2)]
    assert large.get(ScoreRecord, "a/b") == store.all(ScoreRecord)["a/b"] == SCORE
    assert small.all(RankRecord) == {"0": rank(1)}
    assert small.written(RankRecord, "0") != store.written(RankRecord, "0")
    small.delete(RankRecord)
    assert [student.count("rank") for student in (store, small, large)] == [1, 0, 1]
    assert small.payloads("rank") == {}
    large.delete(RankRecord, "0")
    assert store.all(RankRecord) == {"0": rank(0)}
    assert store.kinds() == {"rank", "score"}


def test_a_transaction_holds_for_all_students(store: RunStore) -> None:
    small = store.of("small")

    def broken() -> None:
        with store.transaction():
            store.put("0", rank(0))
            small.put("0", rank(1))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    assert store.count("rank") == small.count("rank") == 0


def test_the_student_without_a_name_lies_where_it_always_did(store: RunStore) -> None:
    store.put("0", rank(0))
    store.put("select", passed("select"))
    store.of("small").put("0", rank(1))
    store.write("report.json", "{}")
    with closing(sqlite3.connect(store.root / "run.sqlite")) as database:
        assert database.execute("SELECT kind, key FROM record ORDER BY kind").fetchall() == [
            ("pass", "select"), ("rank", "0"), ("rank@small", "0"),
        ]  # fmt: skip
    assert (store.root / "report.json").is_file()


def test_a_finished_pass_counts_for_whom_it_worked(store: RunStore) -> None:
    small = store.of("small")
    for name in ("pretrain", "select"):
        store.put(name, passed("first"))
        store.event("pass_finished", name=name)
    small.put("select", passed("second"))
    assert {name: record.fingerprint for name, record in small.all(PassRecord).items()} == {
        "pretrain": "first", "select": "second",
    }  # fmt: skip
    assert {record.fingerprint for record in store.all(PassRecord).values()} == {"first"}
    small.delete(PassRecord, "select")
    assert list(small.all(PassRecord)) == ["pretrain"]
    assert list(store.all(PassRecord)) == ["pretrain", "select"]
    assert small.events("pass_finished") == [("pass_finished", {"name": "pretrain"})]


def test_the_history_of_one_is_not_that_of_another(store: RunStore) -> None:
    small = store.of("small")
    small.put("0", rank(0))
    small.event("pass_started", name="rank")
    small.put("a/b", SCORE)
    store.event("preflight", of="x")
    common = [("put", {"kind": "score", "key": "a/b"})]
    assert store.events() == [*common, ("preflight", {"of": "x"})]
    assert small.events("put") == [("put", {"kind": "rank", "key": "0"}), *common]
    assert small.events("pass_started") == [("pass_started", {"name": "rank"})]


def test_targets_have_tables_of_their_own(store: RunStore) -> None:
    first = store.on("aaa")
    assert first.table == ""
    first.put("teacher", teacher("aaa", 1.0))
    second = first.on("bbb")
    assert second.get(NetworkLatencyRecord, "teacher") is None
    second.put("teacher", teacher("bbb", 2.0))
    second.put("model", model(2.0))
    second.put("0", rank(0))
    assert store.on("aaa").get(NetworkLatencyRecord, "teacher") == teacher("aaa", 1.0)
    assert store.on("bbb").get(NetworkLatencyRecord, "teacher") == teacher("bbb", 2.0)
    assert second.on("aaa").get(LatencyModelRecord, "model") is None
    assert second.of("small").get(LatencyModelRecord, "model") is None
    assert second.of("small").get(NetworkLatencyRecord, "teacher") == teacher("bbb", 2.0)
    assert second.on("aaa").count("rank") == 1, "a selection is its student's, whatever the target"
    first.delete(NetworkLatencyRecord)  # estimates give way to measurements
    assert store.on("bbb").table == "bbb", "a target keeps its table"
    assert store.on("aaa").table == store.on("ccc").table == ""


def test_files_lie_in_a_folder_by_name_but_for_those_of_the_run(store: RunStore) -> None:
    small = store.of("small")
    for file in ("student.onnx", "report.html", "checkpoints/student.safetensors", "config.toml"):
        assert small.path(file) == store.root / "students" / "small" / file
        assert store.path(file) == store.root / file
    for file in ("candidates/a/b.safetensors", "network.json", "scratch"):
        assert small.path(file) == store.path(file)
    assert small.write("report.html", "x").read_text() == "x"
    for file in ("../x", "a/../../x", "/x", "candidates/../../x"):
        with pytest.raises(StorageError, match="outside of it"):
            small.path(file)


@pytest.mark.parametrize("name", FORGED)
def test_what_could_lead_elsewhere_is_no_name(store: RunStore, name: str) -> None:
    with pytest.raises(
        UsageError, match=r"^student .*: expected letters, digits, '-', '_' and '.', a letter"
    ) as caught:
        store.of(name)
    assert "\n" not in str(caught.value)


def test_a_run_that_names_a_student_as_no_command_does_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        store.put("named", NamedRecord(table=""))
        store.of("small").put("named", NamedRecord(table=""))
        assert store.students() == ["student", "small"]
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as database:
        database.execute("UPDATE record SET kind = 'named@../../x' WHERE kind = 'named@small'")
        database.commit()
    with RunStore(tmp_path / "run") as store, pytest.raises(StorageError, match=r"names a student '\.\./\.\./x': "):
        store.students()


def test_those_on_one_target_are_found(store: RunStore) -> None:
    here = store.on("aaa")
    here.put("teacher", teacher("aaa"))
    for name, target in (("small", "aaa"), ("phone", "bbb")):
        student = store.of(name).on(target)
        student.put("named", NamedRecord(table=student.table))
    assert [student.student for student in here.sharing()] == ["student", "small"]
    assert [student.student for student in store.on("bbb").sharing()] == ["phone"]


def test_a_follower_sees_the_same_and_leaves_no_trace(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        store.of("small").put("0", rank(1))
        with FollowerStore(tmp_path / "run") as follower:
            assert follower.of("small").get(RankRecord, "0") == rank(1)
            assert follower.count("rank") == 0
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with FollowerStore(tmp_path / "run") as follower:
        assert follower.of("small").count("rank") == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_every_pass_works_for_whom_its_records_are() -> None:
    common = {"capture", "candidates", "profile", "pretrain", "score", "shrink", "spectrum", "widths"}
    common |= {"master", "perturb", "gradient", "superblocks"}
    for name in registered("hant.passes"):
        assert (pass_scope(name) == Scope.TARGET) is (name in common), name
        kind: type[Pass] = load_plugin("hant.passes", name)
        for artifact in kind.ensures if name in ("pretrain", "score") else ():
            assert scope_of(artifact) == Scope.RUN


def test_what_nobody_has_declared_is_a_students_own(store: RunStore) -> None:
    class NoteRecord(Record):
        kind = "note"
        text: str

    store.of("small").put("x", NoteRecord(text="mine"))
    assert store.get(NoteRecord, "x") is None
    assert scope_of("never declared") == Scope.STUDENT
    assert pass_scope("never registered") == Scope.STUDENT
