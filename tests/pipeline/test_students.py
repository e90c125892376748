"""What the students of a run have in common, and what each keeps for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hant.transformer.errors import LoadError, StorageError, UsageError
from hant.transformer.pipeline.config import FILE, dump, make
from hant.transformer.pipeline.students import common_to, is_begun, stored_for

RUN = {
    "model": "net.pt", "data": "digits", "pool": "fast", "seed": 3, "budget": "0.45", "epochs": 5,
    "passes": {"pretrain": {"epochs": 2}, "capture": {"granularity": "stage"}, "finetune": {"momentum": 0.8}},
}  # fmt: skip


def write(folder: Path, **values: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(dump(make(values)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path / "run", **RUN)
    return tmp_path / "run"


def test_a_new_student_begins_with_the_settings_of_the_one_without_a_name(run: Path) -> None:
    assert not is_begun(run, "small")
    assert make(stored_for(run, "small")) == make(stored_for(run, "student")) == make(RUN)


def test_its_own_settings_stay_its_own_and_the_rest_is_the_runs(run: Path) -> None:
    own = {"budget": "0.3", "target": "cpu-torch", "passes": {"pretrain": {"epochs": 9}, "finetune": {"momentum": 0.5}}}
    write(run / "students" / "small", **RUN | own | {"data": "evil.py:load", "arch": "evil.py:net", "pool": "hant-197"})
    assert is_begun(run, "small")
    write(run, **RUN | {"epochs": 7, "pool": "zero-shot"})
    small = make(stored_for(run, "small"))
    assert (small.budget, small.target, small.epochs) == ("0.3", "cpu-torch", 5)
    assert (small.data, small.arch, small.pool, small.seed) == ("digits", None, "zero-shot", 3)
    assert small.passes["finetune"] == {"momentum": 0.5}
    assert small.passes["pretrain"] == {"epochs": 2}
    assert make(stored_for(run, "student")).budget == "0.45"


def test_an_option_of_an_earlier_version_is_left_out(run: Path) -> None:
    write(run, **RUN | {"passes": {"rank": {"finalist_epochs": 0.25, "samples": 9}, "theirs": {"x": 1}}})
    assert stored_for(run, "student")["passes"] == {"rank": {"samples": 9}, "theirs": {"x": 1}}
    assert stored_for(run, "small")["passes"] == {"rank": {"samples": 9}, "theirs": {"x": 1}}


@pytest.mark.parametrize(("given", "flags"), [
    ({"pool": "hant-197"}, "--pool hant-197"),
    ({"seed": 4}, "--seed 4"),
    ({"exclude": ["a.*"]}, "--exclude 'a.*'"),
    ({"passes": {"pretrain": {"epochs": 9}}}, "--set pretrain.epochs=9"),
])  # fmt: skip
def test_a_student_does_not_change_what_all_have_in_common(run: Path, given: dict[str, Any], flags: str) -> None:
    with pytest.raises(UsageError) as caught:
        common_to(run, given)
    assert str(caught.value) == (
        f"run {run}: {flags} would change what all its students have in common; give it without a student's name"
    )


def test_what_is_the_same_or_its_own_may_be_said(run: Path) -> None:
    given = {
        "data": "digits",
        "seed": 3,
        "budget": "0.2",
        "passes": {"select": {"attempts": 2}, "pretrain": {"epochs": 2}},
    }
    assert make(common_to(run, given)).pool == "fast"


def test_a_students_folder_that_is_a_link_is_refused(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", **RUN)
    (run / "students").mkdir()
    (run / "students" / "small").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="students/small is a link"):
        stored_for(run, "small")


def test_a_damaged_file_is_named(run: Path) -> None:
    (run / "students" / "small").mkdir(parents=True)
    (run / "students" / "small" / FILE).write_text("budget = ")
    with pytest.raises(LoadError, match=r"students/small/config\.toml"):
        stored_for(run, "small")
