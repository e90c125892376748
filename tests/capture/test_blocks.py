from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hant
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from hant.op_library.tensor_spec import Layout
from hant.transformer.errors import UnfitError
from hant.transformer.ir.block import BlockKind
from torch import Tensor, nn

Randomise = Callable[[nn.Module], nn.Module]


def images(batch: int, size: int = 64) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


class Pyramid(nn.Module):
    """One head over three levels, as detectors have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.ModuleList([nn.Conv2d(8, 8, 3, 2, 1) for _ in range(2)])
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [self.stem(x)]
        for layer in self.down:
            levels.append(layer(levels[-1]))
        return [self.head(level) for level in levels]


def test_one_head_over_a_pyramid_is_one_tied_block() -> None:
    model = Pyramid()
    graph = hant.trace(model, images(1))
    head = graph.block("head")
    assert head.calls == 3
    assert [str(i) for i, _ in head.other_calls] == ["8x16x16", "8x8x8"]
    assert head.macs == sum(s * s * 9 * (64 + 32) for s in (32, 16, 8))
    new = nn.Conv2d(8, 4, 1)
    student = graph.replace({"head": new})
    assert student.block("head").macs == sum(s * s * 32 for s in (32, 16, 8))
    for network in (student.module, student.network):
        found = network(images(2))
        assert [tuple(t.shape) for t in found] == [(2, 4, 32, 32), (2, 4, 16, 16), (2, 4, 8, 8)]
        assert torch.equal(found[0], new(model.stem(images(2))))
    with pytest.raises(UnfitError, match="expected"):
        graph.replace({"head": nn.Sequential(nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(32))})


def test_weights_that_run_elsewhere_too_make_no_block() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.out = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.out(self.conv(self.conv(x) + x)))

    graph = hant.trace(Shared(), images(1))
    assert not any("conv" in b.name for b in graph.blocks)
    assert any("is also used elsewhere" in d.reason for d in graph.diagnostics)
    assert torch.equal(graph.module(images(2)), Shared.forward(cast(Shared, graph.network), images(2)))


def test_a_weight_held_by_two_modules_makes_no_block() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]
            convolutions[3].weight = convolutions[0].weight
            self.blocks = nn.ModuleList(nn.Sequential(c, nn.ReLU(), nn.Conv2d(3, 3, 1)) for c in convolutions)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    graph = hant.trace(Held(), images(1))
    assert [b.name for b in graph.blocks if b.class_name == "Sequential"] == ["blocks.1", "blocks.2"]
    reasons = {d.where: d.reason for d in graph.diagnostics}
    for name in ("blocks.0.0", "blocks.3.0"):
        assert (
            reasons[name] == "its weight blocks.0.0.weight is also used elsewhere, so replacing it here would split it"
        )


def test_a_table_of_relative_positions_may_be_shared() -> None:
    class Attends(nn.Module):
        def __init__(self, table: nn.Parameter) -> None:
            super().__init__()
            self.table, self.qkv, self.out = table, nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return x + cast(Tensor, self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=self.table)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            table = nn.Parameter(torch.randn(16, 16))
            self.embed = nn.Linear(3, 8)
            self.blocks = nn.Sequential(*(Attends(table) for _ in range(3)))

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.blocks(self.embed(x)))

    graph = hant.trace(Net(), torch.zeros(1, 16, 3))
    assert [b.name for b in graph.replaceable] == ["blocks.0", "blocks.1", "blocks.2"]


def test_one_layer_that_runs_on_several_levels_is_tied() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> list[Tensor]:
            x = self.stem(x)
            return [self.out(x), self.out(x[:, :, ::2, ::2])]

    model = Levels()
    graph = hant.trace(model, images(1))
    assert (graph.block("out").calls, graph.block("out").module) == (2, model.out)
    student = graph.replace({"out": nn.Conv2d(8, 4, 3, padding=1)})
    assert [t.shape[1:] for t in student.network(images(2))] == [(4, 32, 32), (4, 16, 16)]
    assert student.network is not student.module


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        ("stage", ["layer1", "layer2", "layer3", "layer4"]),
        ("block", [f"layer{s}.{i}" for s in (1, 2, 3, 4) for i in (0, 1)]),
    ],
)
def test_granularity_of_a_resnet(granularity: str, expected: list[str], randomise: Randomise) -> None:
    model = randomise(torchvision.models.resnet18(num_classes=4)).eval()
    graph = hant.trace(model, images(1), granularity=granularity)  # type: ignore[arg-type]
    assert [b.name for b in graph.replaceable] == expected
    with torch.no_grad():
        assert torch.equal(graph.module(images(3)), model(images(3)))


def test_fine_granularity_splits_blocks_into_their_parts(randomise: Randomise) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=4)).eval()
    graph = hant.trace(model, images(1), granularity="fine")
    assert [b.name for b in graph.replaceable] == [f"blocks.{i}.{part}" for i in (0, 1) for part in ("attn", "mlp")]
    assert graph.block("blocks.0.attn").kind is BlockKind.TRANSFORMER
    with torch.no_grad():
        assert torch.equal(graph.module(images(3)), model(images(3)))
    resnet = hant.trace(torchvision.models.resnet18(num_classes=4).eval(), images(1), granularity="fine")
    assert len(resnet.blocks) == 21  # every convolution and the classifier
    assert all(b.class_name == "Run" for b in resnet.blocks)


def test_contracts_hold_layout_and_batch_multiplier() -> None:
    class Windows(nn.Module):
        """Attention inside windows, which are folded into the batch."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.Sequential(
                *(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2))
            )
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).permute(0, 2, 3, 1)
            b, h, w, c = x.shape
            x = x.reshape(b, 2, h // 2, 2, w // 2, c).transpose(2, 3).reshape(b * 4, h // 2 * (w // 2), c)
            return cast(Tensor, self.norm(self.blocks(x)))

    model = Windows()
    graph = hant.trace(model, images(1))
    block = graph.block("blocks.0")
    assert (block.input.batch, block.input.layout, block.input.shape) == (4, Layout.TOKENS, (64, 8))
    assert block.macs == 4 * 64 * 8 * 16 * 2
    assert torch.equal(graph.module(images(3)), model(images(3)))
    assert graph.replace({"blocks.1": nn.Identity()}).module(images(3)).shape == (12, 64, 8)


def test_channels_last_maps_are_told_from_channels_first(randomise: Randomise) -> None:
    model = randomise(timm.create_model("swin_tiny_patch4_window7_224", depths=(2, 2), num_heads=(2, 4), embed_dim=16))
    graph = hant.trace(model.eval(), images(1, 224))
    layouts = {b.name: (b.input.layout, b.output.layout) for b in graph.replaceable}
    assert layouts["layers.0.blocks.0"] == (Layout.NHWC, Layout.NHWC)
    assert graph.block("layers.0.blocks.1").kind is BlockKind.TRANSFORMER


def test_dense_layers_are_narrowed_to_what_they_add(randomise: Randomise) -> None:
    model = randomise(torchvision.models.densenet._densenet(8, (2, 2), 16, None, False, num_classes=4)).eval()
    graph = hant.trace(model, images(1))
    names = [b.name for b in graph.replaceable]
    assert names.count("features.denseblock1.denselayer2") == 1
    layer = graph.block("features.denseblock1.denselayer2")
    assert (layer.input.channels, layer.output.channels) == (24, 8)
    student = graph.replace({layer.name: nn.Conv2d(24, 8, 1)})
    with torch.no_grad():
        assert torch.equal(graph.module(images(2)), model(images(2)))
    assert student.module(images(2)).shape == (2, 4)


def test_what_is_in_no_block_has_a_reason() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return cast(Tensor, self.a(x) * self.b(y) + y)

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.cells = nn.ModuleList(TwoInputs() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            x, y = self.stem(x), self.second(x)
            for cell in self.cells:
                x, y = cell(x, y), x
            return x

    graph = hant.trace(Cells(), images(1))
    assert all(not b.name.startswith("cells.1") or b.class_name == "Run" for b in graph.blocks)
    reasons = {d.where: d.reason for d in graph.diagnostics}
    assert "reads 2 values from outside" in reasons["cells.2"]


class Dark(nn.Module):
    """A residual block that narrows inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.b(torch.relu(self.a(x))))


class DarkStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int = 1) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.blocks = nn.Sequential(*(Dark(outputs) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(torch.relu(self.down(x))))


def test_stages_of_one_block_each_are_no_blocks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(DarkStage(4, 8), DarkStage(8, 16), DarkStage(16, 32)))
    names = [b.name for b in hant.trace(model, images(1)).replaceable if b.kind is BlockKind.RESIDUAL]
    assert names == ["1.0.blocks.0", "1.1.blocks.0", "1.2.blocks.0"]


def test_a_stem_that_holds_a_block_is_not_taken_whole() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Dark(8))
    graph = hant.trace(nn.Sequential(stem, nn.Sequential(*(Dark(8) for _ in range(3)))), images(1))
    assert [b.name for b in graph.replaceable] == ["0.1", "1.0", "1.1", "1.2"]


def test_the_projection_of_a_shortcut_belongs_to_the_block_that_adds_it() -> None:
    class Adds(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.Conv2d(outputs, outputs, 3, padding=1)

        def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
            return torch.relu(self.b(torch.relu(self.a(x))) + shortcut)

    class Tree(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.project = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))
            self.first, self.second, self.third = (
                Adds(inputs, outputs, 2),
                Adds(outputs, outputs),
                Adds(outputs, outputs),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x, self.project(torch.nn.functional.max_pool2d(x, 2)))
            x = self.second(x, x)
            return cast(Tensor, self.third(x, x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.low, self.high = nn.Conv2d(3, 8, 1), Tree(8, 16), Tree(16, 32)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.high(self.low(self.stem(x))))

    graph = hant.trace(Net(), images(1))
    assert [b.name for b in graph.replaceable] == [
        f"{a}.{b}" for a in ("low", "high") for b in ("first", "second", "third")
    ]
    assert not any(b.sides for b in graph.blocks)


def test_every_step_in_no_block_has_a_reason() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x).flatten(2).mT, self.b(x).flatten(2).mT
            return cast(Tensor, self.attend(a, b, b)[0] + a)

    graph = hant.trace(Odd(), images(1, 8))
    assert [b.name for b in graph.blocks] == ["a", "b"]
    reasons = {d.where: d.reason for d in graph.diagnostics if "attend" in d.reason}
    assert reasons == {"network": "attend reads 2 values (getattr, getattr); a block has one input"}
    light = next(d for d in graph.diagnostics if "flatten" in d.reason)
    assert light.reason.endswith(": no weighted sum, so there is nothing to replace")
