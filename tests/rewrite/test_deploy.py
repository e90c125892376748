"""What trains as branches is timed, exported and saved as one convolution: by operators, numerics and the checker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hant
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.pools import operation
from hant.op_library.reparameterise import Branches
from hant.passes.latency.workbench import lowerable
from hant.transformer.contracts.target import Target
from hant.transformer.rewrite.deploy import deploy
from torch import Tensor, nn

BRANCHED = ("repvgg_1x1", "repvgg_3x3", "repvgg_5x5", "repvgg_7x7", "dbb_1x1")
SPEC = hant.TensorSpec((8, 14, 14))
TARGET = Target(name="t", backend="onnxruntime")


def settled(name: str) -> nn.Module:
    """The operation with statistics that are not those of fresh norms."""
    torch.manual_seed(0)
    module = operation(name).build(SPEC, SPEC)
    with torch.no_grad():
        for _ in range(3):
            module(2 * SPEC.random(16) + 1)
    return module.eval()


class Twice(nn.Module):
    """Runs one module under two names, with a frozen layer between."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.second = inner, inner
        self.between = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BRANCHED)
def test_the_exported_graph_is_one_convolution_that_computes_the_same(name: str, tmp_path: Path) -> None:
    module, path = settled(name), tmp_path / "operation.onnx"
    OnnxRuntimeBackend().lower(lowerable(module), (SPEC.random(2),), TARGET, path)
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert Counter(node.op_type for node in graph.graph.node) == {"Conv": 1}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = SPEC.random(2)
    with torch.no_grad():
        expected = module.double()(x.double())
        fused = deploy(module)(x.double())
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    size = float(expected.abs().max())
    assert float((fused - expected).abs().max()) <= 1e-12 * size
    assert float(np.abs(found - expected.numpy()).max()) <= 1e-5 * size


def test_every_place_of_a_shared_module_is_exchanged_and_the_original_stays() -> None:
    network = Twice(settled("repvgg_3x3")).eval()
    x = SPEC.random(2)
    with torch.no_grad():
        expected = network(x)
    made = deploy(network)
    assert isinstance(made.first, nn.Conv2d)
    assert made.first is made.second
    assert made.between is network.between
    assert isinstance(network.first, Branches)
    with torch.no_grad():
        torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_a_network_without_branches_is_returned_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert deploy(network) is network


def test_a_student_is_saved_without_branches_and_trained_with_them(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), settled("dbb_1x1"), nn.ReLU()).eval()
    images = torch.randn(2, 3, 14, 14)
    hant.save(deploy(network), tmp_path / "student.safetensors", example_inputs=images)
    again = hant.load(tmp_path / "student.safetensors")
    kinds = Counter(type(part).__name__ for part in again.modules() if not list(part.children()))
    assert kinds["Conv2d"] == 2
    assert not kinds["BatchNorm2d"]
    with torch.no_grad():
        torch.testing.assert_close(again(images), network(images), rtol=1e-4, atol=1e-5)
    assert any(isinstance(part, Branches) for part in network.modules())
