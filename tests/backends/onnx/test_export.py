"""Graphs of modules, written by the exporter."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from hant.backends.onnx.export import export_graph
from torch import Tensor, nn

registration = importlib.import_module("torch.onnx._internal.exporter._registration")


class Net(nn.Module):
    """Operators of a few kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = nn.functional.gelu(self.norm(self.conv(x))).flatten(2).mT
        outputs: Tensor = self.attention(rows, rows, rows)[0]
        return outputs.mean(1)


def test_the_table_of_translations_is_built_once_and_the_graph_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Net().eval(), torch.zeros(1, 3, 4, 4)
    own = vars(registration.ONNXRegistry)["from_torchlib"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, registration.__name__, None)
        other_inside = export_graph(net, [x])
    export_graph(net, [x])
    built: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(registration, "OnnxDecompMeta", built.append)
        kept = export_graph(net, [x])
    assert not built
    assert vars(registration.ONNXRegistry)["from_torchlib"] is own
    assert kept == other_inside
