"""What a run from elsewhere may hold: links and special files in it are refused before anything is opened."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hant.transformer.errors import StorageError
from hant.transformer.runs.follower import FollowerStore
from hant.transformer.runs.inside import IN_PLACE, check_inside, inside
from hant.transformer.runs.store import RunStore
from hant.transformer.tools.files import write_atomically


@pytest.fixture
def run(tmp_path: Path) -> Path:
    RunStore(tmp_path / "run").close()
    return tmp_path / "run"


ENTRIES = (
    ".lock", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal", "config.toml", "run.seal",
    "hant-crash.log", "network.json", "report.json", "student.onnx", "candidates", "checkpoints", "figures", "scratch",
    "targets", "candidates/block/x.safetensors", ".x.12.tmp",
)  # fmt: skip


@pytest.mark.parametrize("store", [RunStore, FollowerStore])
@pytest.mark.parametrize("name", ENTRIES)
def test_no_link_is_followed(tmp_path: Path, run: Path, name: str, store: Callable[[Path], RunStore]) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    with pytest.raises(
        StorageError, match=rf"run: {re.escape(name)} is a link, and links inside a run are not followed"
    ):
        store(run)
    assert victim.read_text() == "precious"
    assert (run / name).is_symlink()


def test_a_link_to_a_folder_is_not_entered(tmp_path: Path, run: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".mine.1.tmp").write_text("mine")
    (run / "candidates").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(StorageError, match="candidates is a link"):
        RunStore(run)
    assert (tmp_path / "outside" / ".mine.1.tmp").read_text() == "mine"


def test_the_run_itself_may_be_reached_by_a_link(tmp_path: Path, run: Path) -> None:
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    RunStore(tmp_path / "link").close()


def test_a_pipe_is_refused_and_not_waited_for(run: Path) -> None:
    os.mkfifo(run / "config.toml")
    with pytest.raises(StorageError, match=r"config\.toml is neither a file nor a folder; remove it"):
        check_inside(run)


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_changed_in_place_has_no_second_name(tmp_path: Path, run: Path, name: str) -> None:
    if not (run / name).exists():
        (run / name).write_bytes(b"")
    os.link(run / name, tmp_path / "second")
    with pytest.raises(StorageError, match=r"has a second name elsewhere \(a hard link\).*; copy the run \(cp -r"):
        RunStore(run)
    shutil.copytree(run, tmp_path / "copy")
    RunStore(tmp_path / "copy").close()


def test_a_second_name_of_what_is_replaced_stays_as_it_is(tmp_path: Path, run: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (".lock", "config.toml"):
        (run / name).unlink(missing_ok=True)
        os.link(victim, run / name)
    with RunStore(run) as store:
        store.write("config.toml", "new")
    assert victim.read_text() == "precious"
    assert (run / "config.toml").read_text() == "new"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "candidates/../../x", "a\0b"])
def test_records_cannot_name_files_outside(run: Path, name: str) -> None:
    with RunStore(run) as store:
        for use in (store.path, store.load_tensors, lambda path: store.write(path, "x")):
            with pytest.raises(StorageError, match="as a file of its own, which is outside of it"):
                use(name)
    assert inside(run, "candidates/b/x") == run / "candidates/b/x"


def test_a_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".x.{os.getpid()}.tmp").symlink_to(victim)
    write_atomically(tmp_path / "x", "new")
    assert (victim.read_text(), (tmp_path / "x").read_text()) == ("precious", "new")


def test_the_link_of_an_earlier_version_goes_and_any_other_in_its_place_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "targets" / "one" / "candidates"
    link.parent.mkdir(parents=True)
    (tmp_path / "candidates").mkdir()
    link.symlink_to("../../candidates", target_is_directory=True)
    assert check_inside(tmp_path) == []
    assert not link.is_symlink()
    link.symlink_to("../../../candidates", target_is_directory=True)
    with pytest.raises(StorageError, match="targets/one/candidates is a link"):
        check_inside(tmp_path)
