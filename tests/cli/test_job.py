"""The whole job by the command, on a small network: made once, then looked at, gone on with, and disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.cli.main import main
from hant.transformer.pipeline.default import DEFAULT_PASSES
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

HANT = Path(sys.executable).with_name("hant-opt")
JOB = [
    *("net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "./quick.toml"),
    *("--budget", "0.95", "--pool", "teacher,identity,efn_3x3_e1_se1.00"),
    *("--epochs", "1", "--set", "align.epochs=1", "--set", "pretrain.epochs=1"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> Path:
    """A directory with the network's files and its finished run ``run``."""
    place = tmp_path_factory.mktemp("job")
    shutil.copytree(network_files, place, dirs_exist_ok=True)
    with contextlib.chdir(place):
        assert main([*JOB, "-o", "run", "--quiet"]) in (0, 4)
    return place


@contextlib.contextmanager
def writer(run: Path) -> Iterator[None]:
    """Another process that holds the run."""
    code = (
        "import sys; from hant.transformer.runs.store import RunStore\n"
        "with RunStore(sys.argv[1]): print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.communicate()


def ran(run: Path, since: int = 0) -> list[str]:
    with RunStore(run) as store:
        return [str(payload["name"]) for what, payload in store.events()[since:] if what == "pass_started"]


def events(run: Path) -> int:
    with RunStore(run) as store:
        return len(store.events())


def test_the_run_holds_everything(finished: Path) -> None:
    run = finished / "run"
    names = {path.name for path in run.iterdir()}
    assert {"report.json", "student.onnx", "student.pt2", "student.safetensors", "student.json", "config.toml"} <= names
    report = json.loads((run / "report.json").read_text())
    assert {"budget", "target", "latency", "accuracy", "selection", "seconds"} <= report.keys()
    assert list(report["seconds"]) == list(DEFAULT_PASSES[:-1])
    assert "scratch" not in names
    assert {"teacher_ms", "student_ms", "ratio", "predicted_ratio", "estimated"} <= report["latency"].keys()
    assert report["budget"] == "0.95"
    assert set(report["selection"]) == {"blocks.0", "blocks.1"}
    with RunStore(run) as store:
        assert set(store.all(PassRecord)) == set(DEFAULT_PASSES)


def test_the_same_command_again_does_nothing_twice(job: Path, command: Any) -> None:
    before, student = events(job / "run"), (job / "run" / "student.safetensors").read_bytes()
    done = command(*JOB, "-o", "run")
    assert done.code in (0, 4)
    assert set(ran(job / "run", before)) <= {"capture", "verify", "report"}
    assert "search: up to date" in done.err
    assert "latency   teacher" in done.out
    assert (job / "run" / "student.safetensors").read_bytes() == student


def test_json_is_alone_on_standard_output(job: Path, command: Any) -> None:
    assert json.loads(command("report", "run", "--json").out)["budget"] == "0.95"
    passes = json.loads(command("search", "run", "--json").out)["passes"]
    assert passes["search"]["seconds"] > 0


def test_another_budget_is_searched_in_the_same_candidates(job: Path, command: Any) -> None:
    before = events(job / "run")
    done = command("search", "run", "--budget", "0.8")
    assert done.code == 0, done.err
    assert ran(job / "run", before) == ["capture", "search"]
    done = command("finetune", "run")
    assert done.code == 2
    assert (
        "finetune needs winner, which this run does not have yet; run pass rank first: hant-opt rank run"
        in done.error()
    )
    with RunStore(job / "run") as store:
        puts = [put for _, put in store.events("put") if put["kind"] in ("candidate", "epoch", "latency")]
    assert max(Counter((put["kind"], put["key"]) for put in puts).values()) == 1
    assert 'budget = "0.8"' in (job / "run" / "config.toml").read_text()


def test_a_larger_pool_trains_only_what_is_new(job: Path, command: Any) -> None:
    pool = "teacher,identity,efn_3x3_e1_se1.00,cb_stack_1x1_ex1.0"
    for verb in ("profile", "pretrain"):
        done = command(verb, "run", "--pool", pool)
        assert done.code == 0, done.err
    with RunStore(job / "run") as store:
        ready = {key for key, record in store.all(CandidateRecord).items() if record.file}
        puts = Counter(put["key"] for _, put in store.events("put") if put["kind"] == "candidate")
        assert any("cb_stack" in key for key in store.all(CandidateRecord))
    assert all(puts[key] == 1 for key in ready)


def test_data_may_be_given_when_it_is_needed(job: Path, command: Any) -> None:
    words = [word for word in JOB if word not in ("--data", "net.py:data")]
    assert command("profile", *words, "--input-shape", "1x12x12", "-o", "fresh").code == 0
    done = command("pretrain", "fresh")
    assert "pretrain needs data; give --data digits" in done.error()
    done = command("pretrain", "fresh", "--data", "net.py:data")
    assert done.code == 0, done.err
    assert command("score", "fresh").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --seed 1", r"run run was made with another seed \(seed: 0 then, 1 now\); give a new --output"),
        ("run --data digits", "another input shape and data"),
        ("run --set finetune.epochs=x", "option finetune.epochs"),
        ("run --output elsewhere", "run is a run and --output names another"),
    ],
)
def test_what_a_run_is_bound_to(job: Path, command: Any, words: str, message: str) -> None:
    done = command(*words.split())
    assert done.code == 2
    assert re.search(message, done.error()), done.error()


def test_a_verb_that_comes_too_early_names_the_one_before(job: Path, command: Any) -> None:
    done = command("score", *JOB, "-o", "fresh")
    assert done.code == 2
    assert (
        "score needs candidate, which this run does not have yet; run pass pretrain first: hant-opt pretrain fresh"
        in (done.error())
    )


def test_the_other_engine_is_a_matter_of_two_verbs(job: Path, command: Any) -> None:
    before = events(job / "run")
    done = command("select", "run", "--search", "ilp")
    assert done.code == 2
    assert done.error().endswith("run pass score first: hant-opt score run --search ilp")
    assert command("score", "run").code == 0
    assert ran(job / "run", before) == ["capture", "score"]
    assert "search: up to date" in command("select", "run").err  # scores are looked at, the engine stays what it was
    done = command("select", "run", "--search", "ilp")
    assert done.code == 0, done.err
    assert json.loads(command("rank", "run", "--json").out)["passes"].keys() == {"rank"}


def test_a_budget_that_cannot_be_met_says_the_least(job: Path, command: Any) -> None:
    done = command("profile", "run", "--budget", "0.01")
    assert done.code == 3
    assert "budget 0.01 cannot be met on quick" in done.error()
    assert "of the teacher's" in done.error()
    done = command("search", "run", "--budget", "0.01")
    assert done.code == 3
    assert "budget 0.01 cannot be met" in done.error()


def test_a_dry_run_writes_nothing(job: Path, command: Any) -> None:
    before = {
        path: path.read_bytes() for path in (job / "run").rglob("*") if path.suffix in (".toml", ".json", ".onnx")
    }
    done = command("run", "--budget", "0.8", "--dry-run")
    assert done.code == 0, done.err
    assert "passes to run: capture, search, rank, align, finetune, export, verify, report" in done.out
    assert "dry run: nothing was written" in done.out
    assert {path: path.read_bytes() for path in before} == before
    done = command(*JOB, "-o", "fresh", "--dry-run", "--json")
    assert json.loads(done.out)["run_passes"] == list(DEFAULT_PASSES)
    assert not (job / "fresh").exists()


def test_the_saved_configuration_gives_the_same_run(job: Path, command: Any) -> None:
    done = command(*JOB, "-o", "run", "--save-config", "mine.toml", "--dry-run")
    assert done.code == 0, done.err
    done = command("--config", "mine.toml", "--dry-run", "--json")
    assert set(json.loads(done.out)["run_passes"]) <= {"capture", "verify", "report"}


def test_a_run_in_use_is_refused(job: Path, command: Any) -> None:
    with writer(job / "run"):
        done = command("report", "run")
    assert done.code == 2
    assert "run run is in use by another process; wait for it or give another --output" in done.error()


def test_inspect_shows_the_blocks(job: Path, command: Any) -> None:
    done = command("inspect", "run")
    assert done.code == 0, done.err
    assert "blocks.0" in done.out
    assert "2 replaceable blocks of" in done.out
    plain = json.loads(
        command("inspect", "net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--json").out
    )
    assert [block["name"] for block in plain["blocks"] if block["replaceable"]] == ["blocks.0", "blocks.1"]
    assert 0 < plain["coverage"]["macs"] <= 1
    assert "blocks.0" in command("inspect", "run", "--graph").out


def test_ctrl_c_ends_in_one_line_and_the_same_command_goes_on(job: Path, command: Any) -> None:
    words = [*JOB, "-o", "fresh", "--set", "pretrain.epochs=500"]
    # a shell that starts the tests in the background has SIGINT ignored, and children inherit that
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [HANT, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=attend
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("reachable"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130
    assert rest.rstrip().endswith("hant-opt: error: interrupted; what was finished is kept, the same command resumes")
    assert "Traceback" not in rest
    before = events(job / "fresh")
    done = command("pretrain", "fresh", "--set", "pretrain.epochs=1")
    assert done.code == 0, done.err
    assert ran(job / "fresh", before) == ["capture", "pretrain"]


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    job: Path,
    small_disk: Path,
    command: Any,
) -> None:
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as handle:
        while True:
            handle.write(bytes(4096))
    os.truncate(small_disk / "ballast", 128 * 1024)
    words = ("profile", *JOB, "-o", str(small_disk / "run"))
    done = command(*words)
    assert done.code == 2
    assert "No space left" in done.error() or "full" in done.error()
    filler.unlink()
    done = command(*words)
    assert done.code == 0, done.err
