"""The whole job for a device that is not here: done, by estimates, and said so everywhere."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.passes.reporting.schema import Report
from hant.transformer.cli.main import main

JOB = [
    *("net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "v100-torch", "--budget", "0.95"),
    *(
        "--pool",
        "teacher,identity,cb_res_1x1",
        "--epochs",
        "0",
        "--set",
        "align.epochs=0",
        "--set",
        "pretrain.epochs=1",
        "--batch-size",
        "8",
    ),
]


def test_every_word_of_it_is_an_estimate(
    network_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if PyTorchBackend().unavailable(load_target("v100-torch")) is None:
        pytest.skip("the absent device is here")
    shutil.copytree(network_files, tmp_path, dirs_exist_ok=True)
    with contextlib.chdir(tmp_path):
        assert main([*JOB, "-o", "run"]) == 4
    out, err = capsys.readouterr()
    report = Report.model_validate(json.loads((tmp_path / "run" / "report.json").read_text()))
    assert report.latency.estimated
    assert report.latency.teacher.estimated
    assert report.latency.student.estimated
    assert all(row.estimated for row in report.blocks)
    assert all(network.estimated for network in report.networks)
    assert report.within_budget
    assert report.accuracy.samples > 0
    assert report.parity.samples == 0
    assert "(estimated on v100-torch)" in out
    assert "teacher ms (est.)" in out
    assert "reachable on v100-torch: " in err
    assert " ms estimated, " in err
    assert "outputs   not compared: the device is not here" in out
    last = err.strip().splitlines()[-1]
    assert last.startswith("hant-opt: error: all latencies are estimated, the teacher's at ")
    assert "PyTorch sees no CUDA device here" in last
    assert "(est.)" in (tmp_path / "run" / "report.md").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "these latencies are estimates" in page
    assert "were not compared with PyTorch" in page
