from __future__ import annotations

import json

import pytest
from hant.transformer.cli.main import main


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    assert "cpu-ort" in capsys.readouterr().out
    assert main(["targets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cpu-ort"]["backend"] == "onnxruntime"
    assert rows["cpu-ort"]["unavailable"] is None


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ops", "--input", "16x8x8", "--output", "32x4x4", "--pool", "teacher,identity,efn_3x3_e6_se0.25"]
    assert main([*words, "--json"]) == 0
    found = {row["operation"]: row for row in json.loads(capsys.readouterr().out)["operations"]}
    assert not found["identity"]["fits"]
    assert found["identity"]["reason"]
    assert found["efn_3x3_e6_se0.25"]["macs"] > 0
    assert found["teacher"]["macs"] is None
    assert main(words) == 0
    assert "2 of 3 operations fit 16x8x8 -> 32x4x4" in capsys.readouterr().out


def test_ops_of_any_size_take_no_memory_and_what_cannot_be_built_has_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["ops", "--input", "1024x512x512", "--pool", "identity,cb_stack_7x7_ex1.0,bot_trans_e1", "--json"]
    assert main(words) == 0
    found = {row["operation"]: row for row in json.loads(capsys.readouterr().out)["operations"]}
    assert found["identity"]["macs"] == 0
    assert found["cb_stack_7x7_ex1.0"]["parameters"] == 2 * 1024**2 * 49 + 4 * 1024
    assert not found["bot_trans_e1"]["fits"]
    assert "positions takes" in found["bot_trans_e1"]["reason"]
