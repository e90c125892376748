"""``hant-opt inspect`` on a network of the user's own."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hant.transformer.cli.main import main

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x + self.b(self.a(x))

class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layers = nn.ModuleList(nn.Sequential(Block(), Block()) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = Backbone(), nn.Linear(8, 4)

    def forward(self, x):
        x = self.head(self.backbone(x).mean((2, 3)))
        return x if x.sum() > 1e9 else x + 1
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "net.py").write_text(NETWORK)
    arch = f"{tmp_path / 'net.py'}:Net"
    return ["inspect", "--arch", arch, "--input-shape", "3x16x16", "--submodule", "backbone"]


def test_the_table_says_what_the_blocks_hold(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    for name in ("stem", "layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1"):
        assert f"\n{name} " in out
    assert "all blocks hold 100.0 % of the MACs, the trunk's 100.0 %; the largest, layers.0.0, holds " in out
    assert "4 replaceable blocks of 5 hold" in out


def test_without_submodule_the_part_in_the_way_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words[:-2]) == 2
    told = capsys.readouterr().err
    assert "reads the values of a tensor in Python (__bool__) at " in told
    assert "--submodule" in told


def test_json_holds_the_same(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["coverage"]["all"] == told["coverage"]["trunk"] == 1
    assert told["coverage"]["largest"] == max(block["share"] for block in told["blocks"])
    assert [block["name"] for block in told["blocks"] if block["identity"]] == [
        f"layers.{i}.{j}" for i in (0, 1) for j in (0, 1)
    ]


@pytest.mark.parametrize(
    ("level", "names"),
    [("stage", ["layers.0", "layers.1"]), ("fine", ["layers.0.0.a", "layers.0.0.b"])],
)
def test_granularity(level: str, names: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--granularity", level, "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert [block["name"] for block in blocks if block["replaceable"]][:2] == names


def test_an_unknown_granularity_names_the_known(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--granularity", "huge"]) == 2
    assert "granularity: input should be 'fine', 'block' or 'stage' (got 'huge')" in capsys.readouterr().err


def test_include_and_exclude(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--include", "layers.1.*", "--exclude", "*.0", "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert [block["name"] for block in blocks if block["replaceable"]] == ["layers.1.1"]


def test_the_graph_is_printed_line_by_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--graph"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert lines[0] == "network Backbone"
    assert [line.split("(")[0].split()[-1] for line in lines if " = block " in line][:2] == ["stem", "layers.0.0"]


def test_the_picture_shows_every_block(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--svg", str(tmp_path / "blocks.svg")]) == 0
    root = ET.parse(tmp_path / "blocks.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in ("stem", "layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1"):
        assert name in texts
    assert "layers.0.0" in capsys.readouterr().out
    assert main([*words, "--svg", str(tmp_path / "no" / "blocks.svg")]) == 2
    assert "blocks.svg: No such file or directory; give another --svg" in capsys.readouterr().err
