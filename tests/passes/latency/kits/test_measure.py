"""The loop of a kit's script on a kit made by hand: one network in ONNX Runtime, as often as there are groups."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from hant.backends.measuring.rounds import take_rounds
from hant.backends.onnxruntime.session import Device
from hant.passes.latency.kits.measure import digest, run
from onnx import TensorProto, helper

PROTOCOL = {
    "warmup_seconds": 0.0,
    "rounds": 3,
    "max_rounds": 4,
    "max_seconds": 5.0,
    "confidence": 0.99,
    "relative_width": 0.0,
    "min_sample_ms": 0.0,
    "drift": 1e9,
    "trim": 0.1,
}
SETTINGS = {"provider": "CPUExecutionProvider", "threads": 1, "graph_optimization": "all"}


def relu() -> bytes:
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [given], [made])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    ).SerializeToString()
    assert onnx.load_model_from_string(content).graph.node[0].op_type == "Relu"
    return content


def group(name: str, *files: str, max_rounds: int = 60) -> dict[str, Any]:
    inputs = [{"shape": [2, 4], "dtype": "float32"}]
    networks = [{"file": file, "inputs": inputs} for file in ("whole.onnx", *files)]
    return {"name": name, "what": f"group {name}", "max_rounds": max_rounds, "networks": networks}


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A folder with a kit of three groups; the file that the last one names is no network."""
    groups = [group("a"), group("b", "other.onnx", max_rounds=3), group("c", "broken.onnx")]
    manifest = {"settings": SETTINGS, "target": {"protocol": PROTOCOL}, "groups": groups}
    for name in ("whole.onnx", "other.onnx"):
        (tmp_path / name).write_bytes(relu())
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_every_group_has_the_samples_of_its_networks(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Device, take_rounds, [str(kit)]) == 0
    result = result_of(kit)
    assert result["digest"] == digest(json.loads((kit / "manifest.json").read_text()))
    assert {"device", "cores", "system", "runtime", "provider"} == result["device"].keys()
    counts = {name: [len(samples) for samples in one["samples"]] for name, one in result["groups"].items()}
    assert counts == {"a": [4], "b": [3, 3], "c": [4, 0]}
    assert len(result["groups"]["c"]["converged"]) == 1
    assert "[3/3] group c" in capsys.readouterr().out


def test_a_network_that_cannot_be_run_is_named_with_the_reason(kit: Path) -> None:
    assert run(Device, take_rounds, [str(kit)]) == 0
    errors = result_of(kit)["groups"]["c"]["errors"]
    assert errors.keys() == {"1"}
    assert "\n" not in errors["1"]
    assert "protobuf parsing failed" in errors["1"]


def test_what_was_measured_is_not_measured_again(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Device, take_rounds, [str(kit)]) == 0
    result = result_of(kit)
    first = result["groups"].pop("b")
    (kit / "result.json").write_text(json.dumps(result))
    capsys.readouterr()
    assert run(Device, take_rounds, [str(kit)]) == 0
    assert "3 groups, 2 measured before" in capsys.readouterr().out
    again = result_of(kit)["groups"]
    assert {name: again[name] for name in "ac"} == result["groups"]
    assert again["b"] != first


def test_the_zip_file_does_as_well_and_the_result_lies_beside_it(kit: Path, tmp_path: Path) -> None:
    archive = tmp_path / "deep" / "kit.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as made:
        for path in kit.glob("*.*"):
            made.write(path, path.name)
    assert run(Device, take_rounds, [str(archive)]) == 0
    assert result_of(archive.parent)["groups"].keys() == {"a", "b", "c"}


def settings(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


def no_kit(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def damaged(folder: Path) -> None:
    (folder / "result.json").write_text('{"version": 1, "gro')


def of_another_kit(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps({"digest": "0", "device": {}, "groups": {}}))


def begun_elsewhere(folder: Path) -> None:
    identity = digest(json.loads((folder / "manifest.json").read_text()))
    known = {**Device(SETTINGS).facts(), "device": "abacus"}
    (folder / "result.json").write_text(json.dumps({"digest": identity, "device": known, "groups": {}}))


def no_provider(folder: Path) -> None:
    settings(folder, provider="NoSuchProvider")


def no_network(folder: Path) -> None:
    (folder / "whole.onnx").write_bytes(b"no network")


def no_groups(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"settings": {}}')


def deep(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def deep_result(folder: Path) -> None:
    (folder / "result.json").write_text("[" * 100_000)


def lost(folder: Path) -> None:
    (folder / "other.onnx").unlink()


@pytest.mark.parametrize("byte", [*range(30, 60), *range(-60, -1, 3)])
def test_a_damaged_zip_is_one_line(kit: Path, capsys: pytest.CaptureFixture[str], byte: int) -> None:
    archive = kit / "kit.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in (kit / "manifest.json", *kit.glob("*.onnx")):
            made.write(path, path.name)
    content = bytearray(archive.read_bytes())
    content[byte] ^= 0xFF
    archive.write_bytes(content)
    code = run(Device, lambda calls, *_, **__: rounds(len(calls)), [str(archive)])
    error = capsys.readouterr().err
    assert code == 0 or (code == 2 and error.startswith("measure.py: error: ") and error.count("\n") == 1)


def rounds(networks: int) -> Any:
    return SimpleNamespace(samples=[[1.0]] * networks, converged=[True] * networks)


def test_a_network_that_fails_when_it_runs_is_left_out(kit: Path) -> None:
    class Failing(Device):
        def open(self, content: bytes, *inputs: Any) -> Any:
            call = super().open(content, *inputs)
            opened.append(call)
            return (lambda: 1 / 0) if len(opened) == 2 else call

    opened: list[Any] = []
    assert run(Failing, lambda calls, *_, **__: rounds(len(calls)), [str(kit)]) == 0
    assert result_of(kit)["groups"]["b"]["errors"] == {"1": "division by zero"}


def test_a_network_that_fails_later_stops_with_one_line(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("device\nlost")

    assert run(Device, broken, [str(kit)]) == 2
    assert capsys.readouterr().err == (
        "measure.py: error: a network of group a failed while it was timed: device lost; what was measured before is "
        "kept, the same command goes on\n"
    )


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_groups, "is no kit: manifest.json lacks settings, target or groups"),
        (deep, "is no kit: maximum recursion depth"),
        (deep_result, "cannot read "),
        (lost, "other.onnx of kit "),
        (no_kit, "is no kit: "),
        (damaged, "result.json: Unterminated string"),
        (of_another_kit, "result.json is of another kit; move it away to begin this one"),
        (begun_elsewhere, "was begun elsewhere: device 'abacus' is not "),
        (no_provider, "here has no NoSuchProvider; install the build of onnxruntime that has it"),
        (no_network, "the whole network cannot be run here: "),
    ],
)
def test_what_cannot_be_done_is_one_line(kit: Path, capsys: pytest.CaptureFixture[str], harm: Any, words: str) -> None:
    harm(kit)
    assert run(Device, take_rounds, [str(kit)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("measure.py: error: ")
    assert words in error
    assert error.count("\n") == 1


def test_stopping_is_no_error(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    assert run(Device, interrupted, [str(kit)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
