"""The script for a GPU, as far as a CPU can tell: it is cut off, goes on, says what to bring, and writes pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hant.tests.bench import gpu, gpu_stages, gpu_wheels
from packaging.requirements import Requirement

SCRIPT = Path(__file__).with_name("gpu.py")


def test_a_command_over_its_time_is_cut_off_with_all_it_started(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    log = tmp_path / "log"
    assert gpu.limited([sys.executable, str(tmp_path / "slow.py")], dict(os.environ), log, 2) == "cut off"
    child = int(log.read_text())
    end = time.monotonic() + 20  # a killed process may still stand in the table for a moment on a busy machine
    while (alive := running(child)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive
    assert gpu.limited([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), log, 20) == "failed (3)"


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_findings_outlive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    gpu.note(tmp_path, "a", {"value": 1})
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": "b", "val\n')
    gpu.note(tmp_path, "a", {"value": 2})
    assert gpu.steps(tmp_path) == {"a": {"value": 2}} == json.loads((tmp_path / "results.json").read_text())
    assert gpu.outcome(tmp_path, "device") == "not begun"


def test_the_checkout_is_importable_with_its_entry_points_without_being_installed(tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import distribution; import hant.transformer.errors as e; "
        "print(e.__file__); print(len(distribution('hant').entry_points))"
    )
    environment = {**os.environ, "PYTHONPATH": gpu.importable(tmp_path / "path")}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    place, points = told.stdout.split()
    assert place == str(tmp_path / "path" / "hant" / "transformer" / "errors.py")
    assert int(points) > 20


def test_failures_of_the_gpu_tests_are_kept_with_their_tracebacks(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2, 'why'\n"
        "def test_absent(): pytest.skip('no device')\n"
    )
    xml = tmp_path / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={xml}", "-p", "no:cacheprovider", "test_some.py"]
    subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    found = gpu_stages.outcomes(xml)
    assert found["passed"] == 1
    assert found["skipped"] == {"test_some.test_absent": "no device"}
    assert re.search("AssertionError: why", found["failed"]["test_some.test_bad"])


RESULTS = {
    "device/facts": {"name": "Some GPU", "torch": "2.11.0", "cuda": "13.0", "when": "2026-01-02"},
    "latency/table/cuda-torch": {
        "rows": 78,
        "seconds": 60.4,
        "networks": 12,
        "error": 1.234,
        "bias": -0.5,
        "tau": 0.96,
    },
    "latency/promise/cuda-torch/0.45": {"ratio": 0.44, "low": 0.43, "high": 0.45, "measured": 2},
    "latency/promise/cuda-torch/0.3": {"refused": "the least is 0.35"},
    "throughput/one by one": {"rate": 1000.0, "gain": 1.0, "busy": None},
    "throughput/streams and graphs": {"rate": 9000.0, "gain": 9.0, "busy": 0.93},
    "cifar10/teacher": {"accuracy": 93.39},
    "cifar10/under cifar10-resnet20/30/after": {"accuracy": 92.0, "ratio_teacher": 0.3},
    "front/a": {"budget": "0.3", "made": True, "ratio": 0.29, "accuracy": 91.0, "drop": 2.39, "reason": ""},
    "front/b": {"budget": "0.1", "made": False, "reason": "the least is 0.2"},
    "front/shared": {"mean_accuracy": {"cuda-torch": 91.0}, "cost": 12.0, "seconds": 100.0},
}


def test_results_become_sections_of_the_pages_and_replace_those_before(tmp_path: Path) -> None:
    for name in ("latency.md", "pretraining.md", "results.md", "once-for-all.md"):
        (tmp_path / name).write_text(f"# {name}\n\ntext\n")
    assert len(gpu.report(RESULTS, tmp_path)) == 4
    first = (tmp_path / "latency.md").read_text()
    assert "| cuda-torch | 78 | 60 | 12 | 1.23 | -0.50 | 0.960 |" in first
    assert "| cuda-torch, 0.45 | 0.4400 (0.4300 to 0.4500) | 2 |" in first
    assert "| cuda-torch, 0.3 | the least is 0.35 |  |" in first
    assert "Some GPU, 2.11.0, 13.0, 2026-01-02" in first
    assert "| streams and graphs | 9000 | 9.00 | 93 % |" in (tmp_path / "pretraining.md").read_text()
    assert "| under cifar10-resnet20/30 | 0.300 | 92.00 | 93.39 |" in (tmp_path / "results.md").read_text()
    front = (tmp_path / "once-for-all.md").read_text()
    assert "| 0.3 | 0.290 | 91.00 | 2.39 |  |\n| 0.1 |  |  |  | the least is 0.2 |\n" in front
    assert "One training of 100 s; mean Pareto accuracy 91.00 on cuda-torch." in front
    (tmp_path / "latency.md").write_text(first + "\nafter\n")
    gpu.report({**RESULTS, "latency/promise/cuda-torch/0.45": {"refused": "none"}}, tmp_path)
    again = (tmp_path / "latency.md").read_text()
    assert again.startswith("# latency.md\n\ntext\n")
    assert again.endswith("\nafter\n")
    assert again.count("## On a GPU") == 1
    assert "| cuda-torch, 0.45 | none |  |" in again


def test_what_is_missing_or_too_old_is_lacking() -> None:
    there = gpu_wheels.installed("Torch==2.11.0+cu130\nnumpy==1.20.0\nscikit_learn==1.7.2\n-e git+https://x\n")
    wanted = [Requirement(text) for text in ("torch>=2.10", "numpy>=1.26", "scikit-learn>=1.5", "pulp>=3.3,<4")]
    assert [need.name for need in gpu_wheels.lacking(wanted, there)] == ["numpy", "pulp"]
    assert {"torch", "pydantic", "pytest"} <= {need.name for need in gpu_wheels.needed()}


def test_what_a_wheel_asks_for_is_that_of_linux(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(
            "some-1.0.dist-info/METADATA",
            'Metadata-Version: 2.1\nName: some\nRequires-Dist: one>=1\nRequires-Dist: two; sys_platform == "win32"\n'
            'Requires-Dist: three; extra == "more"\nRequires-Dist: four; python_version >= "3.12"\n',
        )
    found = gpu_wheels.asked_by(tmp_path / "some-1.0-py3-none-any.whl", "3.12")
    assert [need.name for need in found] == ["one", "four"]


def test_trips_hold_sixty_mebibytes() -> None:
    sizes = [50, 20, 8, 70, 30, 2]
    files = [(Path(f"{size}.whl"), size * 2**20) for size in sizes]
    found = gpu_wheels.trips(files)
    assert [[size // 2**20 for _, size in trip] for trip in found] == [[50, 8, 2], [20, 30], [70]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_stage_runs_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--rehearse", "--out", str(tmp_path), "--minutes", "15"]
    subprocess.run(command, check=True)
    found = gpu.steps(tmp_path)
    assert {name: found[f"stage/{name}"]["outcome"] for name in gpu.STAGES} == dict.fromkeys(gpu.STAGES, "done")
    assert any(step.endswith("/after") for step in found)
    assert any(step.startswith("front/") for step in found)
    before = (tmp_path / "steps.jsonl").read_text()
    subprocess.run(command, check=True)  # nothing is done again
    assert (tmp_path / "steps.jsonl").read_text() == before
