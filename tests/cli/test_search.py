"""Zero-shot, pareto and apply by the command, on a small network without any pretraining."""

from __future__ import annotations

import contextlib
import json
import shutil
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pytest
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import WinnerRecord
from hant.passes.selecting.records import ParetoRecord
from hant.transformer.cli.main import main
from hant.transformer.runs.store import RunStore

TARGET = """
name = "{name}"
backend = "onnxruntime"
batch_size = {batch}
[protocol]
warmup_seconds = 0.02
rounds = 5
max_rounds = 5
"""
JOB = [
    *("net.safetensors", "--arch", "net.py:net", "--arch-kwargs", '{"depth": 6, "width": 16}', "--data", "net.py:data"),
    *("--target", "./one.toml", "--pool", "zero-shot", "-o", "run", "--quiet"),
]


@pytest.fixture(scope="module")
def _zero_shot(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> Path:
    """A directory with a run that was scored without pretraining."""
    from safetensors.torch import save_file

    place = tmp_path_factory.mktemp("zero")
    shutil.copytree(network_files, place, dirs_exist_ok=True)
    for name, batch in (("one", 1), ("four", 4)):
        (place / f"{name}.toml").write_text(TARGET.format(name=name, batch=batch))
    with contextlib.chdir(place):
        scope: dict[str, Any] = {}
        exec((place / "net.py").read_text(), scope)
        save_file(scope["net"](16, 6).state_dict(), place / "net.safetensors")
        for verb in ("profile", "pretrain", "score"):
            assert main([verb, *JOB]) == 0
    return place


@pytest.fixture
def zero_shot(_zero_shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    place = tmp_path / "zero"
    shutil.copytree(_zero_shot, place, symlinks=True)
    monkeypatch.chdir(place)
    return place


def test_zero_shot_skips_blocks_and_trains_nothing(zero_shot: Path) -> None:
    for verb in ("select", "rank"):
        assert main([verb, "run", "--budget", "0.8", "--quiet"]) == 0
    with RunStore("run") as store:
        candidates = store.all(CandidateRecord).values()
        winner = store.get(WinnerRecord, "winner")
    assert all(record.steps == 0 and not record.file for record in candidates)
    assert winner is not None
    assert set(winner.choice.values()) == {"teacher", "identity"}
    assert winner.measured_ms <= 0.8 * winner.teacher_ms


def test_pareto_over_budgets_and_targets_from_one_run(zero_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("run/config.toml").read_text()
    assert main(["pareto", "run", "--budgets", "0.001,0.9", "--targets", "./four.toml,./one.toml", "-k", "3"]) == 0
    shown = capsys.readouterr().out
    assert "before fine-tuning" in shown
    assert "not met" in shown
    with RunStore("run") as store:
        points = store.all(ParetoRecord)
        assert list(points) == ["four/0.001", "four/0.9", "one/0.001", "one/0.9"]
        assert points["four/0.9"].ratio <= 0.9
        assert points["four/0.9"].teacher_ms > points["one/0.9"].teacher_ms
        assert all(record.steps == 0 for record in store.all(CandidateRecord).values())
    assert Path("run/config.toml").read_text() == before
    assert main(["pareto", "run", "--budgets", "0.9", "--json", "--quiet"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {(row["target"], row["budget"]) for row in content["points"]} == {
        ("one", "0.9"),
        ("four", "0.9"),
        ("four", "0.001"),
    }
    for file in content["figures"]:
        xml.dom.minidom.parse(str(Path("run") / file))


def test_pareto_without_a_budget_that_can_be_met_ends_with_3(
    zero_shot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pareto", "run", "--budgets", "0.001", "-k", "2", "--quiet"]) == 3
    assert "budget 0.001 cannot be met on one: the least that can be is" in capsys.readouterr().err


def test_apply_runs_registered_passes_and_leaves_the_configuration(
    zero_shot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("run/config.toml").read_text()
    command = ["apply", "run", "baseline-random", "baseline-greedy", "baseline-ilp", "--budget", "0.8"]
    assert main([*command, "--set", "baseline-random.networks=5", "--set", "baseline-ilp.solutions=4"]) == 0
    shown = capsys.readouterr().out
    assert "baseline-random: done in" in shown
    assert "ilp-4: loss" in shown
    assert Path("run/config.toml").read_text() == before
    assert main(["select", "run", "--budget", "0.8", "--quiet"]) == 0
    assert main(["apply", "run", "figures", "--json", "--quiet"]) == 0
    assert (zero_shot / "run" / "figures" / "searches.svg").is_file()


@pytest.mark.parametrize(("arguments", "text"), [
    (["pareto", "net.safetensors"], "net.safetensors is not a run; give the directory of one"),
    (["apply", "run", "figurs"], "unknown pass 'figurs'; did you mean 'figures'?"),
    (["apply", "run", "proxy", "--set", "proxy.network=5"], "unknown option 'network' of pass 'proxy'"),
    (["pareto", "run", "--targets", "cpu-orr"], "unknown target 'cpu-orr'; did you mean 'cpu-ort'?"),
    (["pareto", "run", "--budgets", "2.0"], "budget '2.0' is above the teacher's own latency"),
])  # fmt: skip
def test_bad_input_is_one_line(
    zero_shot: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert text in error
    assert "Traceback" not in error


def test_the_job_with_operations_that_are_trained_together(zero_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["run", "--search", "prunet", "--set", "prunet.steps=30", "--set", "prunet.search_batch_size=16"]
    assert main(["search", *job, "--budget", "0.8", "-k", "3", "--quiet"]) == 0
    assert main(["rank", "run", "--budget", "0.8", "--quiet"]) == 0
    with RunStore("run") as store:
        winner = store.get(WinnerRecord, "winner")
    assert winner is not None
    assert winner.measured_ms <= 0.8 * winner.teacher_ms
    assert main(["apply", "run", "baseline-prunet", "--budget", "0.8", "--set", "baseline-prunet.steps=20"]) == 0
    assert "prunet: loss" in capsys.readouterr().out
    assert main(["search", *job, "--budget", "0.8", "--set", "prunet.weights_rate=0"]) == 2
    assert "need weights that train" in capsys.readouterr().err


def test_a_front_over_prices_of_latency(zero_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--set", "prunet.steps=30", "--set", "prunet.search_batch_size=16"]
    assert main(["pareto", "run", "--search", "prunet", "--alphas", "0.1,50", *quick, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    points = {point["budget"]: point for point in told["points"]}
    assert points.keys() == {"alpha=0.1", "alpha=50"}
    assert points["alpha=50"]["measured_ms"] <= points["alpha=0.1"]["measured_ms"]
    for given, message in (
        (["--alphas", "0.2"], "--alphas are prices of one search; give --search prunet too"),
        (["--search", "prunet", "--alphas", "x"], "expected numbers above 0, such as 0.2,0.4"),
        (["--search", "prunet", "--alphas", "1", "--limit", "params=50%"], "--limit params=50% holds within budgets"),
    ):
        assert main(["pareto", "run", *given]) == 2
        assert message in capsys.readouterr().err
