from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import hant
import onnxruntime
import pytest
import torch
from hant.transformer.errors import UnfitError, UsageError
from hant.transformer.rewrite.events import BlockReplaced, EagerKept, EagerLost, rewrite_events
from hant.transformer.tools.submodules import with_submodules
from torch import Tensor, nn


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))


@pytest.fixture
def graph(cifar_resnet: nn.Module) -> hant.Graph:
    return hant.trace(cifar_resnet, images(1))


def test_a_replaced_block_runs_and_all_else_is_shared(graph: hant.Graph, cifar_resnet: nn.Module) -> None:
    before = graph.module(images(2))
    conv = nn.Conv2d(16, 16, 3, padding=1)
    with rewrite_events() as events:
        student = graph.replace({"layer2.1": conv})
    assert events == [BlockReplaced("layer2.1", "BasicBlock", "Conv2d"), EagerKept(1)]
    assert student.block("layer2.1").module is conv
    assert student.module.get_submodule("layer2.1") is conv
    assert student.network.get_submodule("layer2.1") is conv
    assert student.network.get_submodule("layer2.0") is cifar_resnet.get_submodule("layer2.0")
    after = student.module(images(2))
    assert torch.equal(after, student.network(images(2)))
    assert not torch.equal(after, before)
    assert torch.equal(graph.module(images(2)), before)
    assert torch.equal(cifar_resnet(images(2)), before)
    assert cifar_resnet.get_submodule("layer2.1") is graph.block("layer2.1").module


def test_costs_follow_the_replacement(graph: hant.Graph) -> None:
    student = graph.replace({"layer1.0": nn.Conv2d(8, 8, 1, bias=False)})
    assert student.block("layer1.0").macs == 8 * 8 * 32 * 32
    assert student.macs == sum(b.macs for b in student.blocks)
    assert student.parameters == sum(p.numel() for p in student.network.parameters())
    assert student.block("layer1.0").signature != graph.block("layer1.0").signature
    again = graph.replace({"layer1.1": nn.Conv2d(8, 8, 1, bias=False)})
    assert again.block("layer1.1").signature == student.block("layer1.0").signature
    assert student.replace({"layer1.0": graph.block("layer1.0").module}).macs == graph.macs


@pytest.mark.parametrize("name", ["conv1", "layer1.0", "layer2.0", "layer3.1", "linear"])
def test_any_single_block_can_be_replaced_by_itself(graph: hant.Graph, name: str) -> None:
    block = graph.block(name)
    same = graph.replace({name: nn.Sequential(block.module)})
    assert torch.equal(same.module(images(3)), graph.module(images(3)))


def test_all_blocks_at_once_and_the_result_is_traceable_and_exportable(graph: hant.Graph) -> None:
    student = graph.replace({b.name: nn.Sequential(b.module) for b in graph.blocks})
    expected = graph.module(images(2))
    assert torch.equal(student.network(images(2)), expected)
    assert torch.equal(hant.trace(student.network, images(1)).module(images(2)), expected)
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(student.network, (images(2),), dynamic_shapes=dynamic)
    assert torch.allclose(program.module()(images(5)), graph.module(images(5)), atol=1e-5)


@pytest.mark.parametrize("replaced", [("layer1.0",), ("conv1", "layer2.1")], ids=["swapped", "graph-surgery"])
def test_the_result_exports_to_onnx(graph: hant.Graph, replaced: tuple[str, ...], tmp_path: Path) -> None:
    student = graph.replace({name: nn.Sequential(graph.block(name).module) for name in replaced})
    assert (student.eager is None) == ("conv1" in replaced)
    batch = torch.export.Dim("batch", min=1, max=64)
    file = tmp_path / "student.onnx"
    torch.onnx.export(student.network.eval(), (images(2),), file, dynamo=True, dynamic_shapes=({0: batch},))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images(5).numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), graph.module(images(5)), rtol=1e-4, atol=1e-5)


def test_surgery_where_a_block_is_no_submodule(graph: hant.Graph) -> None:
    with rewrite_events() as events:
        student = graph.replace({"conv1": nn.Conv2d(3, 8, 1)})
    assert EagerLost("conv1") in events
    assert student.network is student.module
    assert student.module(images(2)).shape == (2, 10)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Identity(), r"returns \(2, 8, 32, 32\) float32 for a batch of 2; expected \(2, 16, 16, 16\)"),
        (nn.Conv2d(4, 4, 1), "fails on its input 8x32x32: RuntimeError: Given groups=1"),
        (nn.Sequential(nn.Conv2d(8, 16, 1, 2), nn.Identity().double()).double(), "fails on its input"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(graph: hant.Graph, module: nn.Module, message: str) -> None:
    with pytest.raises(UnfitError, match=message):
        graph.replace({"layer2.0": module})


def test_an_unknown_block_names_the_nearest(graph: hant.Graph) -> None:
    with pytest.raises(UsageError, match=r"no block 'layer2\.2'; did you mean 'layer2\.[01]'"):
        graph.replace({"layer2.2": nn.Identity()})


def test_hooks_that_keep_their_own_way_to_a_module_lose_the_eager_network() -> None:
    class SideDoor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)) for _ in range(2)))
            self.run: Callable[[Tensor], Tensor] = self._run

        def _run(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.blocks(x))

        def forward(self, x: Tensor) -> Tensor:
            return self.run(x)

    graph = hant.trace(SideDoor(), images(1))
    student = graph.replace({"blocks.0": nn.Identity()})
    assert student.eager is None
    assert torch.equal(student.network(images(2)), graph.block("blocks.1").module(images(2)))


def test_path_copies_leave_the_original_alone() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    new = nn.Identity()
    copy = with_submodules(model, {"0.1": new})
    assert copy.get_submodule("0.1") is new
    for name in ("1", "0.0"):
        assert copy.get_submodule(name) is model.get_submodule(name)
    assert isinstance(model.get_submodule("0.1"), nn.Linear)
