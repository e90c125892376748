"""``torchrun`` of the real command: what one and two processes make of the same run, and after ``kill -9``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hant.passes.finetuning.records import EpochRecord
from hant.transformer.runs.store import RunStore
from safetensors import SafetensorError, safe_open

BIN = Path(sys.executable).parent
TWO = (BIN / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python")
SETTINGS = ("finetune.batch_size=20", "finetune.learning_rate=0.01", "finetune.save_seconds=0")
FLAGS = ("--epochs", "3", *(word for setting in SETTINGS for word in ("--set", setting)))


def start(run: Path, *launcher: str | Path) -> subprocess.Popen[bytes]:
    log = (run.parent / f"{run.name}.log").open("ab")
    words = [*launcher, BIN / "hant-opt", "finetune", run, *FLAGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)


def finish(run: Path, *launcher: str | Path) -> list[float]:
    assert start(run, *launcher).wait() == 0, (run.parent / f"{run.name}.log").read_text()[-3000:]
    with RunStore(run) as store:
        assert [put["key"] for _, put in store.events("put") if put["kind"] == "student"] == ["student"]
        return [epoch.train_loss or 0 for epoch in store.all(EpochRecord).values() if epoch.epoch]


def kill_in_second_epoch(run: Path) -> None:
    """Kill both processes and their launcher after a step of the second epoch."""
    process = start(run, *TWO)
    while process.poll() is None:
        if any(_steps(file) >= (1, 2) for file in run.glob("checkpoints/finetune-*.safetensors")):
            for child in _children(process.pid):
                os.kill(child, signal.SIGKILL)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.01)
    raise AssertionError((run.parent / f"{run.name}.log").read_text()[-3000:])


def _children(parent: int) -> list[int]:
    psutil = pytest.importorskip("psutil")
    return [child.pid for child in psutil.Process(parent).children(recursive=True)]


def _steps(file: Path) -> tuple[int, int]:
    """Return the finished epochs and the steps of the next one."""
    try:
        with safe_open(file, "pt") as tensors:
            return tensors.get_tensor("history").shape[0], int(tensors.get_tensor("progress")[0])
    except (OSError, SafetensorError):
        return 0, 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_end_as_one_and_as_if_never_killed(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "finetuning_run.py"
    subprocess.run([sys.executable, script, tmp_path / "one"], check=True)
    for name in ("two", "killed"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    one, two = finish(tmp_path / "one"), finish(tmp_path / "two", *TWO)
    assert two == pytest.approx(one, rel=1e-2)  # single precision; in double precision 12 digits are equal

    kill_in_second_epoch(tmp_path / "killed")
    assert finish(tmp_path / "killed", *TWO) == two
    for name in ("student", "student-last"):
        whole, stopped = (tmp_path / run / "checkpoints" / f"{name}.safetensors" for run in ("two", "killed"))
        assert whole.read_bytes() == stopped.read_bytes()
