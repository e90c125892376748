"""A kit goes to a device and its result comes back: the search here, the measuring there."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hant.passes.latency.kits.measure import digest
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.selecting.records import SelectionRecord
from hant.transformer.cli.main import main
from hant.transformer.runs.store import RunStore

Command = Callable[..., Any]
MODEL = ["net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "./quick.toml"]
JOB = [*MODEL, "--pool", "teacher,identity,efn_3x3_e1_se1.00", "-o", "run", "--quiet"]
LONELY = """
import runpy, sys
sys.argv = ["measure.py", *sys.argv[2:]]
try:
    runpy.run_path("measure.py", run_name="__main__")
except SystemExit as end:
    code = end.code
foreign = {"hant", "torch", "onnx", "pydantic"} & {name.partition(".")[0] for name in sys.modules}
sys.exit(f"imported {foreign}" if foreign else code)
"""
"""Runs the script without the current folder on its path, and sees to it that nothing of hant was imported."""


def measure(folder: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    words = [python, "-I", "-c", LONELY, "measure.py"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as kit:
        kit.extractall(folder)
    return folder


def elsewhere(result: Path, device: str = "abacus") -> None:
    """Say that the result is of another device."""
    content = json.loads(result.read_text())
    content["device"]["device"] = device
    result.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def _measured(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> Path:
    """A folder with the network's files, its kit, the unpacked kit in ``device``, and its result."""
    place = tmp_path_factory.mktemp("kit")
    shutil.copytree(network_files, place, dirs_exist_ok=True)
    with contextlib.chdir(place):
        assert main(["profile", *JOB, "--kit", "kit.zip"]) == 0
    shutil.rmtree(place / "run")
    done = measure(unpack(place / "kit.zip", place / "device"))
    assert done.returncode == 0, done.stderr
    shutil.copy(place / "device" / "result.json", place / "result.json")
    return place


@pytest.fixture
def place(_measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(_measured, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def test_the_result_makes_the_table_of_the_run(place: Path, command: Command) -> None:
    done = command("profile", *JOB, "--import", "result.json")
    assert done.code == 0, done.err
    assert "0 operations timed, 3 in the table" in done.out
    with RunStore(place / "run") as store:
        rows = store.all(LatencyRecord)
        networks = store.all(NetworkLatencyRecord)
    assert {row.operation.partition(":")[0] for row in rows.values()} == {"teacher", "identity", "efn_3x3_e1_se1.00"}
    assert {row.provenance["batch_size"] for row in rows.values()} == {"1"}
    assert len(networks) == 3**2  # so few that the table is put right by all of them
    assert all(network.timing.samples for network in networks.values())


def test_a_table_goes_from_one_run_to_another_to_the_bit(place: Path, command: Command) -> None:
    assert command("profile", *JOB, "--import", "result.json", "--export", "table.json").code == 0
    done = command("profile", *JOB, "--output", "other", "--import", "table.json")
    assert done.code == 0, done.err
    assert "0 operations timed, 3 in the table" in done.out
    with RunStore(place / "run") as store, RunStore(place / "other") as other:
        assert other.payloads("latency") == store.payloads("latency")
        assert len(other.payloads("latency")) == 3
        assert other.get(NetworkLatencyRecord, "teacher") == store.get(NetworkLatencyRecord, "teacher")


def test_a_table_that_cannot_be_written_is_one_line(place: Path, command: Command) -> None:
    done = command("profile", *JOB, "--import", "result.json", "--export", "absent/table.json")
    assert done.code == 2
    assert done.error() == (
        "cannot write lookup table absent/table.json: No such file or directory; give another --export"
    )


def test_rows_follow_from_the_samples_as_if_they_were_measured_here(place: Path, command: Command) -> None:
    result = json.loads((place / "result.json").read_text())
    for group in result["kit"]["groups"]:
        # the whole teacher takes 10 ms; the block's own window 4, without it 1, with another operation in it 2
        own = any(not row["plus"] and row["weights"] for row in group["rows"])
        ms = [10.0, 4.0, 1.0] if own else [10.0, 4.0, 2.0, 2.0] if group["rows"] else [10.0] + [7.0] * 8
        measured = result["groups"][group["name"]]
        measured["samples"] = [[value] * 3 for value in ms[: len(group["networks"])]]
    (place / "result.json").write_text(json.dumps(result))
    assert command("profile", *JOB, "--import", "result.json").code == 0
    with RunStore(place / "run") as store:
        rows = {row.operation.partition(":")[0]: row.timing.ms for row in store.all(LatencyRecord).values()}
        networks = {record.timing.ms / record.teacher.ms for record in store.all(NetworkLatencyRecord).values()}
    assert rows == {"teacher": 3.0, "identity": 0.0, "efn_3x3_e1_se1.00": 1.0}
    assert networks == {1.0, 0.7}


def test_killed_in_the_middle_it_goes_on(place: Path) -> None:
    device = place / "device"
    (device / "result.json").unlink()
    words = [sys.executable, "-I", "-u", "measure.py"]
    with subprocess.Popen(words, cwd=device, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[1/"):
                process.send_signal(signal.SIGKILL)
                break
    before = json.loads((device / "result.json").read_text())["groups"]
    assert 1 <= len(before) <= 4
    done = measure(device)
    assert done.returncode == 0, done.stderr
    assert f"4 groups, {len(before)} measured before" in done.stdout
    after = json.loads((device / "result.json").read_text())["groups"]
    assert len(after) == 4
    assert before.items() <= after.items()


def test_the_search_runs_where_the_device_is_not_and_its_choice_is_measured_there(
    place: Path, command: Command
) -> None:
    elsewhere(place / "result.json")
    result = json.loads((place / "result.json").read_text())
    (networks,) = [group["name"] for group in result["kit"]["groups"] if group["selections"]]
    del result["groups"][networks]  # else the network that is selected is among them
    (place / "result.json").write_text(json.dumps(result))
    assert command("profile", *JOB, "--import", "result.json").code == 0
    for verb in (["pretrain", "--set", "pretrain.epochs=1"], ["score"]):
        assert command(*verb, "run", "--quiet").code == 0
    done = command("select", "run", "--budget", "0.9", "--quiet")
    assert done.code == 4
    assert "the result of the search is estimated at" in done.error()
    assert "measured elsewhere: device 'abacus' is not" in done.error()
    assert done.error().endswith("with a kit: hant-opt profile run --kit kit.zip")
    assert command("profile", "run", "--kit", "second.zip", "--quiet").code == 0
    second = unpack(place / "second.zip", place / "second")
    groups = json.loads((second / "manifest.json").read_text())["groups"]
    with RunStore(place / "run") as store:
        choice = store.all(SelectionRecord)["000"].choice
    assert [choice in group["selections"] for group in groups] == [True]
    assert measure(second).returncode == 0
    elsewhere(second / "result.json")
    assert command("profile", "run", "--import", "second/result.json", "--quiet").code == 0
    done = command("select", "run", "--quiet")
    with RunStore(place / "run") as store:
        measured = [record.selection for record in store.all(NetworkLatencyRecord).values()]
    assert choice in measured
    # the measurement teaches the prediction, so that another network may be the best now
    assert done.code in (0, 4), done.err


def test_a_result_that_is_not_finished_is_taken_as_far_as_it_is(place: Path, command: Command) -> None:
    whole = json.loads((place / "result.json").read_text())
    part = whole | {"groups": {name: whole["groups"][name] for name in ("0000", "0001")}}
    (place / "part.json").write_text(json.dumps(part))
    for name in ("part.json", "result.json"):
        elsewhere(place / name)
    done = command("profile", *JOB, "--import", "part.json")
    assert done.code == 2
    assert "2 latencies are missing, such as that of " in done.error()
    with RunStore(place / "run") as store:
        assert store.count("latency") == store.count("network_latency") == 1
        kept = store.all(LatencyRecord)
    assert command("profile", *JOB, "--import", "result.json").code == 0
    with RunStore(place / "run") as store:
        assert store.count("latency") == 3
        assert kept.items() <= store.all(LatencyRecord).items()


def other_target(place: Path) -> list[str]:
    (place / "quick.toml").write_text((place / "quick.toml").read_text().replace("\n[", "\nbatch_size = 4\n[", 1))
    return JOB


def other_pool(place: Path) -> list[str]:
    return [*MODEL, "--pool", "teacher,identity", "-o", "run"]


def other_teacher(place: Path) -> list[str]:
    return [*JOB, "--arch", "net.py:bare", "--input-shape", "1x12x12"]


def other_manifest(place: Path) -> list[str]:
    result = json.loads((place / "result.json").read_text())
    result["kit"]["groups"][1]["rows"][0]["weights"][0][1] = 5.0
    (place / "result.json").write_text(json.dumps(result))
    return JOB


def other_samples(place: Path) -> list[str]:
    result = json.loads((place / "result.json").read_text())
    result["groups"]["0001"]["samples"].pop()
    (place / "result.json").write_text(json.dumps(result))
    return JOB


def no_times(place: Path) -> list[str]:
    result = json.loads((place / "result.json").read_text())
    result["groups"]["0000"]["samples"][0][0] = -1.0
    (place / "result.json").write_text(json.dumps(result))
    return JOB


def cut(place: Path) -> list[str]:
    path = place / "result.json"
    path.write_text(path.read_text()[:-100])
    return JOB


def missing(place: Path) -> list[str]:
    (place / "result.json").unlink()
    return JOB


Harm = Callable[[Path], list[str]]
OTHER = "follows from other timings than it does in this run"


def changed(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Return what changes the result."""

    def harm(place: Path) -> list[str]:
        result = json.loads((place / "result.json").read_text())
        change(result)
        (place / "result.json").write_text(json.dumps(result))
        return JOB

    return harm


def forged(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Return what changes the result's kit, with a digest that fits."""

    def harm(result: dict[str, Any]) -> None:
        change(result["kit"])
        with contextlib.suppress(RecursionError):
            result["digest"] = digest(result["kit"])

    return changed(harm)


def without_plus(kit: dict[str, Any]) -> None:
    """Leave out what is added to the first row that has such a part."""
    next(row for group in kit["groups"] for row in group["rows"] if row["plus"])["plus"] = ""


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(min(depth, 900)):
        value = [value]
    return value


def sample(ms: float) -> Harm:
    return changed(lambda result: result["groups"]["0000"]["samples"][0].__setitem__(0, ms))


many = changed(lambda result: result["groups"]["0000"].update(samples=[[1.0] * 61] * 2, converged=[True] * 2))
unknown_group = changed(lambda result: result["groups"].update({"0099": result["groups"]["0000"]}))
unknown_error = changed(lambda result: result["groups"]["0000"]["errors"].update({"99": "x"}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (other_target, "does not fit this run: target 'quick' ("),
        (other_pool, "its pool of 3 operations differs from the run's 2, in efn_3x3_e1_se1.00"),
        (other_manifest, "is damaged: its manifest is not that of kit "),
        (other_samples, "is damaged: group 0001 has other samples than networks"),
        (no_times, "is no result of a kit: groups.0000.samples.0.0: Input should be greater than 0"),
        (sample(float("nan")), "is no result of a kit: groups.0000.samples.0.0: Input should be"),
        (sample(1e300), "groups.0000.samples.0.0: Input should be less than or equal to 3600000"),
        (many, "does not fit this run: group 0000 has more samples than the 5 rounds of its networks"),
        (forged(lambda kit: kit["groups"][1]["rows"][0].update(key="x/y/z")), "row x/y/z is none of this run's"),
        (forged(lambda kit: kit["groups"][1]["rows"][0]["weights"][0].__setitem__(1, -1e6)), OTHER),
        (forged(without_plus), OTHER),
        (forged(lambda kit: kit["groups"][1]["rows"][0].update(operation="identity")), OTHER),
        (forged(lambda kit: kit["groups"][1]["rows"][0]["weights"][0].__setitem__(0, 99)), "names networks that group"),
        (
            forged(lambda kit: kit["groups"][3]["selections"][0].update(zz="identity")),
            "has zz/identity, not of this run",
        ),
        (forged(lambda kit: kit.update(settings={"a": nest(5000)})), "is no result of a kit: "),
        (unknown_group, "is damaged: it measures group '0099', which its kit does not have"),
        (unknown_error, "group 0000 has an error of network 99, of "),
        (cut, "is not a lookup table: the file: Invalid JSON"),
        (missing, "cannot read lookup table result.json: No such file"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_difference(
    place: Path, command: Command, harm: Callable[[Path], list[str]], words: str
) -> None:
    done = command("profile", *harm(place), "--import", "result.json")
    assert done.code == 2
    assert words in done.error()
    with RunStore(place / "run") as store:
        assert store.count("latency") == store.count("network_latency") == 0


def test_latencies_of_two_devices_are_not_mixed(place: Path, command: Command) -> None:
    elsewhere(place / "result.json")
    assert command("profile", *JOB, "--import", "result.json").code == 0
    elsewhere(place / "result.json", "slide rule")
    done = command("profile", *JOB, "--import", "result.json")
    assert done.code == 2
    assert "device 'slide rule' is not 'abacus'" in done.error()


def test_a_kit_for_a_device_that_is_not_here(place: Path, command: Command) -> None:
    words = ["--target", "v100-trt", "--batch-size", "2", "-o", "v100"]
    done = command("profile", *JOB, *words, "--kit", "v100.zip")
    assert done.code == 0, done.err
    folder = unpack(place / "v100.zip", place / "there")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["settings"]["device_name"] == "V100"
    assert manifest["groups"][0]["networks"][0]["inputs"] == [{"shape": [2, 1, 12, 12], "dtype": "float32"}]
    assert "pip install 'numpy' 'tensorrt<10.5'" in (folder / "README.txt").read_text()
    done = measure(folder)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("measure.py: error: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["select", "--kit", "k.zip"],
            "--kit goes with profile, not select; leave it out",
        ),
        (["profile", "--kit", "k.zip", "--import", "r.json"], "--kit and --import are two jobs; give one of them"),
        (["profile", "--kit", "k.zip", "--export", "t.json"], "--kit and --export are two jobs; give one of them"),
        (["select", "--export", "t.json"], "--export goes with profile, not select; leave it out"),
        (["profile", "--kit", "k.zip", "--dry-run"], "--kit and --dry-run are two jobs; give one of them"),
        (["profile", "--kit", "k.zip", "--target", "cpu-torch"], "the backend pytorch has no kit"),
    ],
)
def test_wrong_usage_is_one_line(place: Path, command: Command, words: list[str], message: str) -> None:
    done = command(words[0], *JOB, *words[1:])
    assert done.code == 2
    assert message in done.error()


@pytest.mark.slow
def test_it_runs_in_an_environment_that_holds_nothing_of_hant(place: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy", "onnxruntime"], check=True)
    found = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "hant" not in found
    assert "torch" not in found
    (place / "device" / "result.json").unlink()
    done = measure(place / "device", python)
    assert done.returncode == 0, done.stderr
    assert "[4/4]" in done.stdout
