"""Many students by one command: here the paper's own job, from nothing."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import hant
import pytest
from hant.passes.finetuning.records import EpochRecord
from hant.passes.sharing.records import SharedRecord
from hant.tests.cli.conftest import QUICK
from hant.transformer.cli.main import main
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

JOB = [
    *("shrink", "net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "./quick.toml"),
    *("--pool", "teacher,identity,slice_w0.5", "--set", "shrink.start=none", "--set", "shrink.epochs=2"),
    *("--solutions", "3", "-o", "run", "--quiet", "--budgets", "0.000001,1"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> Path:
    """A directory with a run of two budgets, the first of which nothing can meet."""
    place = tmp_path_factory.mktemp("shrunk")
    shutil.copytree(network_files, place, dirs_exist_ok=True)
    with contextlib.chdir(place):
        assert main(JOB) == 3
    return place


def front(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "run" / "front.json").read_text()))


def test_a_budget_that_cannot_be_met_does_not_stop_the_others(finished: Path) -> None:
    missed, met = front(finished)["points"]
    assert (missed["student"], missed["made"]) == ("quick-0.000001", False)
    assert "the least that can be" in missed["reason"]
    assert (met["student"], met["made"], met["budget"]) == ("quick-1", True, "1")
    files = {path.name for path in (finished / "run" / "students" / "quick-1").iterdir()}
    assert {"student.onnx", "teacher.onnx", "report.json", "report.html", "student.safetensors"} <= files
    report = json.loads((finished / "run" / "students" / "quick-1" / "report.json").read_text())
    assert report["accuracy"]["student"] == met["accuracy"]
    assert {row["stage"] for row in report["training"]} == {"finetune"}
    with RunStore(finished / "run") as store:
        record = store.get(SharedRecord, "shared")
        assert record is not None
        assert (record.schedule, record.drawn, record.epochs) == ("deps", True, 2)
        assert list(record.students) == ["least", "quarter", "half", "three quarters", "full"]
        assert {row.stage for row in store.all(EpochRecord).values()} == {"shrink"}
        assert store.count("score") == 0  # the teacher's say nothing of weights that are drawn anew
        assert set(store.of("quick-1").all(PassRecord)) >= {"choose", "rank", "extract"}
    assert report["search"]["engine"] == "shared"


def test_a_later_budget_takes_no_step_and_the_same_command_makes_nothing_anew(job: Path, command: Any) -> None:
    before = (job / "run" / "shared" / "network.safetensors").stat().st_mtime_ns
    done = command("shrink", "run", "--budgets", "0.95,1", "--json")
    assert done.code in (0, 4), done.err
    told = json.loads(done.out)
    assert [point["student"] for point in told["points"]] == ["quick-0.95", "quick-1"]
    assert all(point["made"] for point in told["points"])
    assert re.search(r"shrink: trained before by deps, in \d+ steps; no step of training", done.err)
    assert "student quick-0.95" in done.err
    assert (job / "run" / "shared" / "network.safetensors").stat().st_mtime_ns == before
    assert done.err.count("extract: up to date") == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run"], "shrink needs budgets; give --budgets 0.3,0.45,0.6"),
        (["run", "--budgets", "0.5", "--budget", "0.4"], "shrink does not take --budget: give --budgets"),
        (["run", "--budgets", "0.5", "--student", "x"], "shrink does not take --student: it names its students itself"),
        (["run", "--budgets", "0.5,50%"], "two students would be called quick-0.5"),
        (["run", "--budgets", "2"], "budget '2' is above the teacher's own latency"),
        (["net.safetensors", "--arch", "net.py:net", "--budgets", "0.5"], "shrink needs data"),
    ],
)
def test_words_that_do_not_go_together_are_one_line(job: Path, command: Any, words: list[str], reason: str) -> None:
    done = command("shrink", *words)
    assert done.code == 2
    assert reason in done.error()


def test_the_baseline_trains_each_student_alone(job: Path, command: Any) -> None:
    settings = ("--set", "shrink.shared=false", "--set", "align.epochs=0", "--epochs", "1")
    done = command("shrink", "run", "--budgets", "0.9", *settings, "--json")
    assert done.code in (0, 4), done.err
    told = json.loads(done.out)
    assert (told["shared"], told["cost"]) == (False, 0.0)
    assert told["points"][0]["made"]
    with RunStore(job / "run") as store:
        trained = store.of("quick-0.9")
        assert [(row.stage, row.epoch) for row in trained.all(EpochRecord).values() if row.epoch] == [("finetune", 1)]
        assert trained.get(PassRecord, "align") is not None
        assert trained.get(PassRecord, "extract") is None


def check_targets(place: Path, told: dict[str, Any], backends: dict[str, str]) -> None:
    """Check that each student was measured on its own target, and that the front tells them apart."""
    assert [point["target"] for point in told["points"]] == list(backends)
    assert told["mean_accuracy"].keys() == backends.keys()
    for point in told["points"]:
        report = json.loads((place / "run" / "students" / point["student"] / "report.json").read_text())
        assert (report["target"]["name"], report["target"]["backend"]) == (point["target"], backends[point["target"]])
        assert not report["latency"]["estimated"]
        assert report["latency"]["ratio"] == point["ratio"]
        exported = "student.pt" if backends[point["target"]] == "pytorch" else "student.onnx"
        assert (place / "run" / "students" / point["student"] / exported).is_file()
    drawn = (place / "run" / "figures" / "front.svg").read_text()
    assert all(name in drawn for name in backends)


def test_named_students_of_several_targets_are_trained_together(job: Path, command: Any) -> None:
    torch = QUICK.replace('"quick"', '"eager"').replace('"onnxruntime"', '"pytorch"')
    (job / "eager.toml").write_text(torch)
    words = ("--budgets", "0.9", "--targets", "./quick.toml,./eager.toml", "--set", "shrink.paths=front", "--anew")
    done = command("shrink", "run", *words, "--json")
    assert done.code in (0, 4), done.err
    check_targets(job, json.loads(done.out), {"quick": "onnxruntime", "eager": "pytorch"})
    with RunStore(job / "run") as store:
        record = store.get(SharedRecord, "shared")
        assert record is not None
        assert list(record.students) == ["quick-0.9", "eager-0.9"]
        assert store.of("quick-0.9").count("search") > 0
        assert store.of("quick-0.9").get(PassRecord, "choose") is None


@pytest.mark.slow
def test_students_for_targets_of_this_machine_and_for_a_file(job: Path, command: Any) -> None:
    (job / "mine.toml").write_text(QUICK.replace('"quick"', '"mine"'))
    done = command("shrink", "run", "--budgets", "0.7,1", "--targets", "cpu-ort,cpu-torch,./mine.toml", "--json")
    assert done.code in (0, 4), done.err
    told = json.loads(done.out)
    assert all(point["made"] for point in told["points"])
    once = {**told, "points": told["points"][::2]}
    check_targets(job, once, {"cpu-ort": "onnxruntime", "cpu-torch": "pytorch", "mine": "onnxruntime"})


def test_python_does_the_same(job: Path) -> None:
    found = hant.once_for_all(
        "net.safetensors",
        arch="net.py:net",
        data="net.py:data",
        budgets=("0.000001", 1),
        targets=("./quick.toml",),
        pool="teacher,identity,slice_w0.5",
        solutions=3,
        run="run",
    )
    assert list(found.students) == ["quick/1"]
    assert found.students["quick/1"].student == "quick-1"
    assert [point.made for point in found.report.points] == [False, True]
    assert found.mean_accuracy["quick"] == found.report.points[1].accuracy
    assert found.cost == front(job)["cost"] > 0
