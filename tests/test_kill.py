"""``kill -9`` the real command at random moments: nothing is lost, nothing is done twice, the student is the same."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.contracts.record import Record
from hant.transformer.runs.store import RunStore

ROOT = Path(__file__).parent.parent
HANT = Path(sys.executable).with_name("hant-opt")
TEACHER = ROOT / "examples" / "digits" / "teacher.pt"
KILLS = 20
SMALL = (
    "--pool",
    "teacher,identity,efn_3x3_e1_se1.00",
    "--set",
    "pretrain.epochs=1",
    "--set",
    "align.epochs=2",
    "--epochs",
    "3",
    "-k",
    "10",
)
"""Flags of a job of a minute; the demo itself takes four, on a machine with nothing else to do."""
UNITS = ("candidate", "search", "latency", "network_latency", "epoch")
"""Kinds whose records are one unit of work each."""


def start(run: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    words: list[str | Path] = [HANT, TEACHER, "--target", "cpu-ort", "--budget", "0.45", "--data", "digits"]
    words += ["--output", run, *flags]
    log = (run.parent / f"{run.name}.log").open("ab")
    return subprocess.Popen(words, stdout=log, stderr=log, cwd=run.parent, env=os.environ | {"OMP_NUM_THREADS": "1"})


def progress(run: Path) -> int:
    """Return how many events the run has, looked up beside the process that writes them."""
    if not (run / "run.sqlite").is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM event").fetchone()[0])
    except sqlite3.OperationalError:  # the table is being made
        return 0


def kill_somewhere(run: Path, flags: Sequence[str], moments: random.Random) -> bool:
    """Start the job and kill it, at any moment or after some events more; return False if it was done before."""
    process, begun = start(run, flags), time.monotonic()
    soon, seconds = moments.random() < 0.25, moments.uniform(0, 20)
    goal = progress(run) + moments.randrange(3, 12 if flags else 24)
    while process.poll() is None:
        if (soon and time.monotonic() - begun > seconds) or (not soon and progress(run) >= goal):
            time.sleep(moments.uniform(0, 1))
            process.kill()
            process.wait()
            return True
        time.sleep(0.05)
    assert process.returncode in (0, 4), (run.parent / f"{run.name}.log").read_text()[-2000:]
    return False


def finish(run: Path, flags: Sequence[str]) -> None:
    # Exit code 4 is a busy machine: the student is there but missed the budget when timed at the end.
    assert start(run, flags).wait() in (0, 4), (run.parent / f"{run.name}.log").read_text()[-2000:]


def units(run: Path) -> Counter[tuple[str, str]]:
    """Return how often each unit was done; marking a slow candidate as dropped is not work."""
    with RunStore(run) as store:
        puts = [(str(put["kind"]), str(put["key"])) for _, put in store.events("put") if put["kind"] in UNITS]
        dropped = {key for key, record in store.all(CandidateRecord).items() if record.state == "dropped"}
    return Counter(put for put in puts if put[0] != "candidate" or put[1] not in dropped)


def copy_latencies(source: Path, destination: Path) -> None:
    """Give a fresh run what the other one measured: a stopwatch never says the same twice."""
    kinds: tuple[type[Record], ...] = (LatencyRecord, NetworkLatencyRecord)
    with RunStore(source) as old, RunStore(destination) as new:
        for kind in kinds:
            for key, record in old.all(kind).items():
                new.put(key, record)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("flags", [SMALL, ()], ids=["small", "demo"])
def test_killed_20_times_the_student_is_that_of_an_undisturbed_run(tmp_path: Path, flags: Sequence[str]) -> None:
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    moments = random.Random(20)
    for kills in range(KILLS):
        assert kill_somewhere(killed, flags, moments), f"the job was over after {kills} kills"
    finish(killed, flags)
    done = units(killed)
    assert {kind for kind, _ in done} == set(UNITS)
    assert [unit for unit, count in done.items() if count > 1] == []

    copy_latencies(killed, calm)
    finish(calm, flags)
    for name in ("student.safetensors", "student.json"):
        assert (killed / name).read_bytes() == (calm / name).read_bytes()
