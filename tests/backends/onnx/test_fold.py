from __future__ import annotations

import torch
from hant.backends.onnx.export import export_graph, export_many
from hant.backends.onnx.fold import folded
from torch import nn


def block() -> nn.Sequential:
    torch.manual_seed(0)
    rows = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.BatchNorm2d(8),
    )  # fmt: skip
    for norm in rows:
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2)
            assert norm.running_var is not None
            norm.running_var.uniform_(0.5, 2)
    return rows.train()


def test_a_norm_behind_a_convolution_is_folded_in_a_copy() -> None:
    given, images = block(), torch.randn(2, 3, 6, 6)
    made = folded(given)
    assert [type(part) for part in made.children()] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
    assert given.training
    assert len(list(given.children())) == 6
    assert torch.allclose(made(images), given.eval()(images), atol=1e-5)


def test_a_norm_without_statistics_stays() -> None:
    rows = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert len(list(folded(rows).children())) == 2


def test_one_convolution_that_stands_twice_is_folded_where_the_norm_follows() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, 2, 3)
    rows, images = nn.Sequential(convolution, convolution, norm).eval(), torch.randn(2, 3, 4, 4)
    assert torch.allclose(folded(rows)(images), rows(images), atol=1e-5)


def test_the_exporter_makes_of_both_the_same_graph() -> None:
    given, images = nn.Sequential(*list(block().eval())[:5]), torch.randn(1, 3, 6, 6)
    (light,) = export_many([given], [images])
    assert not isinstance(light, Exception)
    plain = export_graph(given, [images])
    assert [node.op_type for node in light.graph.node] == ["Conv", "Relu", "Conv"]
    assert [node.op_type for node in plain.graph.node] == ["Conv", "Relu", "Conv"]
