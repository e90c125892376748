from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.passes.finetuning.parallel import Parallel
from hant.transformer.errors import UsageError
from hant.transformer.runs.processes import processes

SCRIPT = Path(__file__).with_name("processes_script.py")
TORCHRUN = Path(sys.executable).with_name("torchrun")


def trained(*launcher: str | Path) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, SCRIPT], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_two_processes_do_the_steps_of_one() -> None:
    one, two = trained(sys.executable), trained(TORCHRUN, "--standalone", "--nproc-per-node", "2")
    assert (one.pop("count"), two.pop("count")) == (1, 2)
    assert set(one) == {"labels", "features", "shared"}
    for what, alone in one.items():
        assert two[what]["losses"] == pytest.approx(alone["losses"], rel=1e-12), what
        for name, values in alone["tensors"].items():
            assert two[what]["tensors"][name] == pytest.approx(values, rel=1e-9, abs=1e-12), (what, name)


def test_a_batch_that_cannot_be_shared_says_which_can(monkeypatch: pytest.MonkeyPatch) -> None:
    parallel = Parallel(torch.device("cpu"))
    assert parallel.part(7, "align") == slice(0, 7)
    parallel.count = 3
    with pytest.raises(
        UsageError, match=r"3 processes cannot share batches of 64 images equally; give .*align.batch_size=66"
    ):
        parallel.part(64, "align")


def test_an_environment_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK=2 and WORLD_SIZE=2 of the environment do not fit"):
        processes()
