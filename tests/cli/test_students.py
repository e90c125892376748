"""Students of one run: each has a budget, a target and files of its own, and none touches another's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hant
import pytest
from hant.passes.finetuning.records import EpochRecord
from hant.passes.latency.records import NetworkLatencyRecord
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.cli.main import main
from hant.transformer.runs.store import RunStore

Row = tuple[str, str, str, float]
SHARED = {"evaluation", "finalist", "latency", "network_latency"}
"""Kinds of which a further student may add records that all have in common."""
KILLED = """
import os, signal, sys
from hant.transformer.cli.main import main
from hant.transformer.runs.store import Records

put = Records.put


def put_and_die(self, key, record):
    put(self, key, record)
    if (self.student, record.kind, key) == ("wide", "epoch", "align/0001"):
        os.kill(os.getpid(), signal.SIGKILL)


Records.put = put_and_die
main(sys.argv[1:])
"""


def contents(run: Path) -> dict[str, bytes]:
    """Return the files of the student without a name, and of the run, without the database."""
    files = (path for path in run.rglob("*") if path.is_file() and "students" not in path.parts)
    return {str(path.relative_to(run)): path.read_bytes() for path in files if not path.name.startswith("run.sqlite")}


def rows(run: Path) -> set[Row]:
    """Return all records but that of capture, which runs with each command."""
    with closing(sqlite3.connect(run / "run.sqlite")) as database:
        found = set(database.execute("SELECT kind, key, payload, created FROM record").fetchall())
    return {row for row in found if row[:2] != ("pass", "capture")}


def epoch(run: Path) -> str:
    """Return the record of the epoch after which ``wide`` is killed."""
    (found,) = (payload for kind, key, payload, _ in rows(run) if (kind, key) == ("epoch@wide", "align/0001"))
    return found


@dataclass(frozen=True)
class Many:
    """A directory with a run of three students, and what was in the run when it had one."""

    place: Path
    files: dict[str, bytes]
    rows: set[Row]
    aligned: str
    """The record of the epoch after which ``wide`` was killed."""

    @property
    def run(self) -> Path:
        return self.place / "run"


@pytest.fixture(scope="module")
def many(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Many:
    """The small run with ``wide``, of another budget, killed once on its way, and ``four``, for another target."""
    place = tmp_path_factory.mktemp("many") / "job"
    shutil.copytree(small_run, place)
    target = (place / "quick.toml").read_text().replace('name = "quick"', 'name = "four"\nbatch_size = 4')
    (place / "four.toml").write_text(target)
    files, before = contents(place / "run"), rows(place / "run")
    wide = ["run", "--student", "wide", "--budget", "50ms", "--quiet"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *wide], cwd=place, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    aligned = epoch(place / "run")
    four = ["run", "--student", "four", "--target", "./four.toml", "--budget", "200ms", "--epochs", "0", "--quiet"]
    with contextlib.chdir(place):
        assert main(wide) == 0
        assert main([*four, "--set", "align.epochs=0"]) == 0
    return Many(place, files, before, aligned)


@pytest.fixture
def place(many: Many, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the three students, as the working directory; nothing in it is to be changed."""
    monkeypatch.chdir(many.place)
    return many.place


def report(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return told


def test_the_first_student_stays_as_it_was_to_the_byte(many: Many) -> None:
    assert contents(many.run) == many.files
    now = rows(many.run)
    assert many.rows <= now
    assert {kind for kind, *_ in now - many.rows if not set(kind) & set(":@")} <= SHARED


def test_each_student_has_files_and_a_report_of_its_own(many: Many) -> None:
    folders = {"student": many.run, **{name: many.run / "students" / name for name in ("wide", "four")}}
    for name, folder in folders.items():
        for file in ("student.onnx", "student.safetensors", "report.html", "report.md", "config.toml"):
            assert (folder / file).is_file(), (name, file)
        assert report(folder).get("student", "student") == name
    wide, four = report(folders["wide"]), report(folders["four"])
    assert (wide["budget"], wide["target"]["name"], wide["target"]["batch_size"]) == ("50ms", "quick", 1)
    assert (four["budget"], four["target"]["name"], four["target"]["batch_size"]) == ("200ms", "four", 4)
    assert [other["name"] for other in four["students"]] == ["student", "wide"]
    assert four["students"][1]["ratio"] == wide["latency"]["ratio"]
    assert "Other students of this run" in (folders["four"] / "report.html").read_text()
    assert wide["origin"]["command"].endswith("--student wide")
    assert four["latency"]["teacher_ms"] != wide["latency"]["teacher_ms"]


def test_what_was_killed_went_on_and_did_nothing_twice(many: Many) -> None:
    with RunStore(many.run) as run:
        wide = run.of("wide")
        assert list(wide.all(EpochRecord)) == ["align/0000", "align/0001", "finetune/0000", "finetune/0001"]
        assert epoch(many.run) == many.aligned, "with its seconds, so it was not trained again"
        begun = Counter(facts["name"] for _, facts in wide.events("pass_started"))
        assert begun["align"] == 2
        assert begun["pretrain"] == begun["profile"] == 1, "the candidates and the table serve every student"
        for name in ("student", "wide", "four"):
            assert run.of(name).get(WinnerRecord, "winner") is not None


def test_the_tables_of_both_targets_are_kept(many: Many) -> None:
    with RunStore(many.run) as run:
        first, second = (run.get(NetworkLatencyRecord, "teacher"), run.on("x").get(NetworkLatencyRecord, "teacher"))
        assert first is not None
        assert second is None
    with contextlib.chdir(many.place), hant.open_run("run", student="four") as context:
        fours = context.store.get(NetworkLatencyRecord, "teacher")
        assert fours is not None
        assert fours.provenance["target"] == context.target.fingerprint != first.provenance["target"]
        assert context.store.get(WinnerRecord, "winner") is not None


@pytest.mark.parametrize(("name", "budget"), [("wide", "50ms"), ("four", "200ms")])
def test_each_is_verified_and_nothing_is_left_to_do(
    place: Path, command: Callable[..., Any], name: str, budget: str
) -> None:
    done = command("verify", "run", "--student", name)
    assert done.code == 0
    assert "verify: up to date" in done.err
    told = command("report", "run", "--student", name)
    assert "report: up to date" in told.err
    assert f"budget {budget} met" in told.out


def test_inspect_lists_the_students(place: Path, command: Callable[..., Any]) -> None:
    told = json.loads(command("inspect", "run", "--json").out)["students"]
    assert [(row["name"], row["budget"], row["target"].rpartition("/")[2]) for row in told] == [
        ("student", "0.8", "quick.toml"), ("four", "200ms", "four.toml"), ("wide", "50ms", "quick.toml"),
    ]  # fmt: skip
    assert told[2]["ratio"] == report(place / "run" / "students" / "wide")["latency"]["ratio"]
    with RunStore("run"):  # also while somebody works on it
        assert "\nwide " in command("inspect", "run").out


@pytest.mark.parametrize(("words", "message"), [
    (("select", "run", "--student", "../x"), "student: expected letters, digits, '-', '_' and '.', a letter or digit"),
    (("inspect", "run", "--student", "wide"), "No such option: --student"),
    (("verify", "run", "--student", "wid"), "run run has no student 'wid'; hant-opt inspect run lists them, and"),
    (("pareto", "run", "--student", "wid"), "run run has no student 'wid'"),
    (("select", "run", "--student", "new", "--pool", "fast"), "run run: --pool fast would change what all its"),
    (("select", "run", "--student", "wide", "--set", "pretrain.epochs=2"), "run run: --set pretrain.epochs=2 would"),
    (("rank", "run", "--student", "wide", "--budget", "40ms"), "hant-opt search run --student wide --budget 40ms"),
])  # fmt: skip
def test_what_is_wrong_is_one_line_and_changes_nothing(
    place: Path, command: Callable[..., Any], words: tuple[str, ...], message: str
) -> None:
    before = rows(place / "run"), {path: path.read_bytes() for path in (place / "run").rglob("*.toml")}
    done = command(*words)
    assert done.code == 2
    assert message in done.error()
    assert (rows(place / "run"), {path: path.read_bytes() for path in (place / "run").rglob("*.toml")}) == before


def test_a_file_does_not_say_which_student_is_meant(place: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('student = "wide"\n')
    done = command("select", "run", "--config", str(tmp_path / "c.toml"))
    assert "student is not taken from a file; give --student with the command" in done.error()
