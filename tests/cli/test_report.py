"""``hant-opt report`` and ``--max-drop`` on a run of a small network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hant.passes.delivering.records import VerificationRecord
from hant.passes.reporting.schema import Report
from hant.passes.selecting.records import ParetoRecord
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

DOCS = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """A directory with a finished run ``run`` whose student is in the budget and loses 1.50 points."""
    place = tmp_path_factory.mktemp("report")
    shutil.copytree(small_run, place, dirs_exist_ok=True)
    with RunStore(place / "run") as store:  # what a busy machine or a lucky student says is not the subject here
        found, verify = store.get(VerificationRecord, "verification"), store.get(PassRecord, "verify")
        assert found is not None
        assert verify is not None
        facts = {"teacher_accuracy": 98.0, "student_accuracy": 96.5, "within_budget": True}
        store.put("verification", found.model_copy(update=facts))
        store.put("verify", verify.model_copy(update={"unverified": ""}))
    return place


def test_too_large_a_drop_fails_and_the_report_is_written(job: Path, command: Any) -> None:
    done = command("report", "run", "--max-drop", "1", "--json")
    assert done.code == 3
    assert done.error().startswith(
        "the student loses 1.50 points of accuracy (98.00 % to 96.50 % on 60 test images), more than the 1 that "
        "--max-drop allows; its files are in run: give a larger --budget"
    )
    report = json.loads(done.out)
    assert (report["accuracy"]["max_drop"], report["accuracy"]["within_limit"]) == (1.0, False)
    assert json.loads((job / "run" / "report.json").read_text()) == report
    assert "NOT kept" in (job / "run" / "report.md").read_text()
    assert "NOT everything asked was kept" in (job / "run" / "report.html").read_text()
    again = command("report", "run")  # the limit is the run's now
    assert again.code == 3
    assert "limit 1 NOT met" in again.out
    assert "max_drop = 1.0" in (job / "run" / "config.toml").read_text()


@pytest.mark.parametrize("limit", ["1.5", "250"])
def test_a_drop_of_just_the_limit_is_kept(job: Path, command: Any, limit: str) -> None:
    done = command("report", "run", "--max-drop", limit)
    assert done.code == 0, done.err
    assert f"limit {limit} met" in done.out
    assert "run/report.html, run/report.md" in done.out


@pytest.mark.parametrize("limit", ["-1", "inf", "nan", "x"])
def test_a_limit_that_is_none_is_refused(job: Path, command: Any, limit: str) -> None:
    done = command("report", "run", "--max-drop", limit)
    assert done.code == 2
    assert "max" in done.error()
    assert "drop" in done.error()


def test_the_report_follows_what_is_added_to_the_run(job: Path, command: Any) -> None:
    assert command("report", "run").code == 0
    assert "report: up to date" in command("report", "run").err
    with RunStore(job / "run") as store:
        point = ParetoRecord(budget="0.8", target="quick", choice={"blocks.0": "identity"}, ratio=0.7, accuracy=90.0)
        store.put("quick/0.8", point)
    report = json.loads(command("report", "run", "--json").out)
    assert [(point["budget"], point["met"]) for point in report["front"]] == [("0.8", True)]


def test_what_the_run_recorded_is_in_the_report(job: Path, command: Any) -> None:
    report = Report.model_validate_json(command("report", "run", "--json").out)
    assert [(epoch.stage, epoch.epoch) for epoch in report.training] == [
        *(("align", 0), ("align", 1)),
        *(("finetune", 0), ("finetune", 1)),
    ]
    assert {"teacher", "student"} <= {network.name for network in report.networks}
    assert report.networks[-1].measured_ms == report.latency.student_ms
    assert sum(report.operations.values()) == pytest.approx(1)
    words = report.origin.command.split()
    assert words[0] == "hant-opt"
    assert Path(words[1]).name == "net.safetensors"
    assert Path(words[words.index("--arch") + 1]).name == "net.py:net"
    assert report.origin.data == "shades"
    assert (job / "run" / "report.html").stat().st_size < 5_000_000


def test_the_schema_is_documented() -> None:
    schema = Report.model_json_schema()
    parts = [schema, *(schema["$defs"][name] for name in schema["$defs"])]
    names = {name for part in parts for name in part["properties"]}
    assert {name for name in names if f"`{name}`" not in DOCS} == set()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_documented_action_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(block("yaml"))
    assert "--max-drop 0.5" in steps[0]["run"]
    assert steps[0]["run"].count("\n") <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "fails"), [("1", True), ("2", False)])
def test_the_documented_makefile_fails_a_build(job: Path, limit: str, fails: bool) -> None:
    (job / "Makefile").write_text(block("make"))
    hant = Path(sys.executable).with_name("hant-opt")
    words = ["make", "gate", f"HANT={hant}", "RUN=run", f"MAX_DROP={limit}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stderr
    assert ("Error 3" in done.stderr) is fails
    assert json.loads((job / "run" / "gate.json").read_text())["accuracy"]["within_limit"] is not fails
