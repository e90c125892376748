"""Blocks that read more than their input: a query made elsewhere, a table that is drawn once for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import hant
import numpy as np
import onnxruntime
import pytest
import torch
from hant.backends.targets.load import load_target
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.timing import Protocol
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import UnfitError
from torch import Tensor, nn

Randomise = Callable[[nn.Module], nn.Module]
BESIDE = "beside its input; what replaces it does without"


class Mixer(nn.Module):
    """A residual block that may be given a query."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        y = torch.relu(self.conv(x))
        return cast(Tensor, x + self.out(y if query is None else y * query))


class GlobalQuery(nn.Module):
    """Every second block gets a query made of what the blocks before have read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.query = nn.Conv2d(8, 8, 1)
        self.blocks = nn.ModuleList(Mixer() for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        query = torch.sigmoid(self.query(x.mean((2, 3), keepdim=True)))
        for index, block in enumerate(self.blocks):
            x = block(x, query if index % 2 else None)
        return cast(Tensor, self.head(x.mean((2, 3))))


class Attention(nn.Module):
    """A block whose attention adds a table that all blocks share."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return cast(Tensor, x + self.out(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=table)))


class SharedTable(nn.Module):
    """The table passes a dropout, so it is drawn once for all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 5, 5)
        self.table = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.register_buffer("places", torch.randn(4, 4, 2, generator=torch.Generator().manual_seed(0)))
        self.blocks = nn.ModuleList(Attention() for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        table = self.table(self.places)[..., 0]
        for block in self.blocks:
            x = block(x, table)
        return cast(Tensor, self.head(x.mean(1)))


def images(batch: int) -> Tensor:
    return torch.randn(batch, 1, 10, 10, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize(("network", "sided"), [(GlobalQuery, [1, 3]), (SharedTable, [0, 1, 2])])
def test_blocks_with_sides_are_found_and_captured_exactly(
    network: type[nn.Module], sided: list[int], randomise: Randomise
) -> None:
    model = randomise(network()).eval()
    graph = hant.trace(model, images(1))
    assert [b.name for b in graph.replaceable if b.sides] == [f"blocks.{i}" for i in sided]
    assert [d.where for d in graph.diagnostics if BESIDE in d.reason] == [f"blocks.{i}" for i in sided]
    for training in (False, True):
        model.train(training)
        graph.module.train(training)
        for batch in (1, 3):
            found = []
            for module in (model, graph.module):
                torch.manual_seed(1)
                found.append(module(images(batch)))
            assert torch.equal(*found)
    drawn = SharedTable()
    drawn.train()
    assert not torch.equal(drawn(images(1)), drawn(images(1))), "the dropout must matter for the test to say anything"


def test_what_replaces_a_block_does_without_its_sides(randomise: Randomise, tmp_path: Path) -> None:
    model = randomise(GlobalQuery()).eval()
    graph = hant.trace(model, images(1))
    assert [str(side) for side in graph.block("blocks.1").sides] == ["8x1x1"]
    new = nn.Conv2d(8, 8, 1)
    student = graph.replace({"blocks.1": new, "blocks.2": nn.Identity()})
    expected = GlobalQuery()
    expected.load_state_dict(model.state_dict())
    with torch.no_grad():
        x = images(2)
        features = torch.relu(model.stem(x))  # type: ignore[operator]
        query = torch.sigmoid(model.query(features.mean((2, 3), keepdim=True)))  # type: ignore[operator]
        blocks = cast(nn.ModuleList, model.blocks)
        features = blocks[3](new(blocks[0](features)), query)
        wanted = model.head(features.mean((2, 3)))  # type: ignore[operator]
        assert torch.equal(student.network(x), wanted)
    assert student.block("blocks.1").class_name == "Conv2d"
    assert student.block("blocks.1").macs == 64 * 100
    again = hant.trace(student.network, x)
    assert torch.equal(again.module(x), wanted)
    hant.save(student.network, tmp_path / "student.pt", x)
    assert torch.equal(hant.load(tmp_path / "student.pt")(x), wanted)
    torch.onnx.export(student.network, (x,), tmp_path / "student.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    with pytest.raises(UnfitError, match="expected"):
        graph.replace({"blocks.1": nn.Conv2d(8, 4, 1)})


def test_alone_a_block_maps_its_input_to_its_output(randomise: Randomise) -> None:
    graph = hant.trace(randomise(GlobalQuery()).eval(), images(1))
    for block in graph.replaceable:
        assert block.alone(block.input.random(2)).shape == (2, *block.output.shape)
        assert (block.alone is block.module) == (not block.sides)


def shades(count: int) -> ImageTensors:
    labels = torch.arange(count) % 3
    return ImageTensors(images(count) + (labels - 1).view(-1, 1, 1, 1), labels)


def test_the_whole_job_runs_on_a_network_with_sides(randomise: Randomise, tmp_path: Path) -> None:
    protocol = Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5)
    model = randomise(GlobalQuery()).eval()
    result = hant.optimize(
        model,
        data=Data(train=shades(150), test=shades(60), name="shades"),
        target=load_target("cpu-ort").model_copy(update={"protocol": protocol}),
        budget="1000ms",
        limits=["params=50%"],
        pool=hant.pool("teacher,identity,conv_cs_1x1"),
        run=tmp_path / "run",
        epochs=1,
    )
    assert set(result.selection) == {f"blocks.{i}" for i in range(4)}
    assert result.selection["blocks.1"] != "teacher" or result.selection["blocks.3"] != "teacher"
    assert result.model(images(2)).shape == (2, 3)
