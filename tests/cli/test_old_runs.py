"""Finished runs of before are read as they are: one student, with the figures that it had.

``before_students`` was made by the last version whose runs held one student, ``before_rooms`` by one that had no
alignment and other folders of code. Both are of a network of two blocks on digits. They lack the states of training,
and ``before_rooms`` what was exported; paths in the files are those of an installation.
"""

from __future__ import annotations

import json
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.pipeline.default import PROGRAM_PASSES
from hant.transformer.runs.store import RunStore

OLD = Path(__file__).with_name("old_runs")
CONFIG = Path("run/config.toml")
KEPT = ("candidates", "profile", "pretrain", "score", "select", "rank")
"""What is finished in both; a run that was never aligned is to be trained anew from there."""
Command = Callable[..., Any]


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the named run as ``run`` of the working directory, told where its teacher lies now."""
    with tarfile.open(OLD / f"{request.param}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    config = tmp_path / "run" / "config.toml"
    place = Path(config.read_text().partition('model = "')[2].partition('"')[0]).parent
    config.write_text(config.read_text().replace(str(place), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def contents() -> dict[Path, object]:
    """What is in the files of the run; of its configuration what it says, in whatever order."""
    files = (path for path in Path("run").rglob("*") if path.is_file() and "sqlite" not in path.name)
    found: dict[Path, object] = {path: path.read_bytes() for path in files if path.name != ".lock"}
    return {**found, CONFIG: tomllib.loads(CONFIG.read_text())}


def holds(new: Any, old: Any) -> bool:
    """Return whether ``new`` says all that ``old`` does; fields may have been added since."""
    if isinstance(old, dict):
        return all(name in new and holds(new[name], value) for name, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(map(holds, new, old))
    return bool(new == old)


both = pytest.mark.parametrize("old", ["before_students", "before_rooms"], indirect=True)
newer = pytest.mark.parametrize("old", ["before_students"], indirect=True)


@both
def test_report_and_inspect_say_what_the_report_said(old: str, command: Command) -> None:
    before, told = contents(), json.loads(Path("run/report.json").read_text())
    done = command("report", "run", "--json")
    assert done.code == 0
    assert holds(json.loads(done.out), told)
    assert "report: up to date" in done.err
    (student,) = json.loads(command("inspect", "run", "--json").out)["students"]
    assert (student["name"], student["budget"], student["target"]) == (
        "student",
        told["budget"],
        str(Path("quick.toml").absolute()),
    )
    assert (student["ratio"], student["student_ms"]) == (told["latency"]["ratio"], told["latency"]["student_ms"])
    assert student["accuracy"] == told["accuracy"]["student"]
    assert contents() == before


@both
def test_what_is_finished_stays_finished(old: str, command: Command) -> None:
    plan = json.loads(command("optimize", "run", "--dry-run", "--json").out)
    done = PROGRAM_PASSES[1:] if old == "before_students" else KEPT
    assert plan["skip_passes"] == list(done)
    assert plan["run_passes"] == ["capture", *(name for name in PROGRAM_PASSES[1:] if name not in done)]


@newer
def test_verify_finds_all_as_it_was_and_a_second_student_leaves_it_so(old: str, command: Command) -> None:
    before = contents()
    done = command("verify", "run")
    assert done.code == 0
    assert "verify: up to date" in done.err
    # Where this machine is not the one of the run, the selection's latency is an estimate.
    assert command("select", "run", "--student", "small", "--budget", "50ms", "--quiet").code in (0, 4)
    after = {path: text for path, text in contents().items() if "students" not in path.parts}
    assert holds(after.pop(CONFIG), before.pop(CONFIG))
    assert after == before
    with RunStore("run") as run:
        winner = run.get(WinnerRecord, "winner")
        assert winner is not None
        assert winner.choice == json.loads(Path("run/report.json").read_text())["selection"]
        assert run.of("small").count("selection") > 0
        assert run.students() == ["student", "small"]
    assert "report: up to date" in command("report", "run").err
