from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hant
import pytest
import timm
import torch
import torchvision
from hant.transformer.errors import CaptureError, UsageError
from hant.transformer.ir.block import BlockKind
from torch import Tensor, nn

Randomise = Callable[[nn.Module], nn.Module]


def images(batch: int, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize(
    ("build", "size", "expected"),
    [
        (
            lambda: torchvision.models.resnet18(num_classes=10),
            64,
            [f"layer{s}.{i}" for s in (1, 2, 3, 4) for i in (0, 1)],
        ),
        (
            lambda: timm.create_model("efficientnet_b0", num_classes=10),
            64,
            [f"blocks.{s}.{i}" for s, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for i in range(n)],
        ),
        (
            lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10),
            64,
            [f"blocks.{i}" for i in range(12)],
        ),
    ],
    ids=["resnet18", "efficientnet_b0", "vit_tiny"],
)
def test_trace_is_exact_and_finds_the_designers_blocks(
    build: Callable[[], nn.Module], size: int, expected: list[str], randomise: Randomise
) -> None:
    model = randomise(build()).eval()
    graph = hant.trace(model, images(1, size))
    assert [b.name for b in graph.replaceable] == expected
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = images(batch, size)
            assert model(x).std() > 0
            assert torch.equal(graph.module(x), model(x))
    model.train()
    graph.module.train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(0)
    taught = model(images(4, size))
    model.load_state_dict(state)
    torch.manual_seed(0)
    assert torch.equal(graph.module(images(4, size)), taught)


def test_cifar_resnet_has_its_basic_blocks(cifar_resnet: nn.Module) -> None:
    graph = hant.trace(cifar_resnet, images(1))
    assert [(b.name, b.kind, b.identity_allowed) for b in graph.blocks] == [
        ("conv1", BlockKind.STEM, False),
        ("layer1.0", BlockKind.RESIDUAL, True),
        ("layer1.1", BlockKind.RESIDUAL, True),
        ("layer2.0", BlockKind.DOWNSAMPLE, False),
        ("layer2.1", BlockKind.RESIDUAL, True),
        ("layer3.0", BlockKind.DOWNSAMPLE, False),
        ("layer3.1", BlockKind.RESIDUAL, True),
        ("linear", BlockKind.HEAD, False),
    ]
    block = graph.block("layer2.0")
    assert (str(block.input), str(block.output)) == ("8x32x32", "16x16x16")
    assert block.macs == 16 * 16 * 16 * 9 * (8 + 16)
    assert block.module is cifar_resnet.get_submodule("layer2.0")
    assert graph.macs == sum(b.macs for b in graph.blocks)
    assert graph.network is cifar_resnet


def test_equal_blocks_have_equal_signatures(cifar_resnet: nn.Module) -> None:
    graph = hant.trace(cifar_resnet, images(1))
    assert graph.block("layer1.0").signature == graph.block("layer1.1").signature
    assert len({b.signature for b in graph.blocks}) == len(graph.blocks) - 1
    convolution = cifar_resnet.get_submodule("layer1.1.conv2")
    assert isinstance(convolution, nn.Conv2d)
    convolution.stride, convolution.padding = (2, 2), (17, 17)
    assert hant.trace(cifar_resnet, images(1)).block("layer1.0").signature == graph.block("layer1.0").signature
    assert hant.trace(cifar_resnet, images(1)).block("layer1.1").signature != graph.block("layer1.0").signature


def test_parameters_are_shared_and_nothing_is_left_behind(cifar_resnet: nn.Module) -> None:
    cifar_resnet.get_submodule("layer1.0").train()
    before = {name: dict(m.__dict__) for name, m in cifar_resnet.named_modules()}
    state = {k: (v.data_ptr(), v.clone()) for k, v in cifar_resnet.state_dict().items()}
    call, rng = nn.Module.__call__, torch.get_rng_state()
    graph = hant.trace(cifar_resnet, images(1))
    assert nn.Module.__call__ is call
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled()
    for name, module in cifar_resnet.named_modules():
        assert module.__dict__.keys() == before[name].keys()
        assert all(module.__dict__[k] is v for k, v in before[name].items())
    for key, value in cifar_resnet.state_dict().items():
        assert value.data_ptr() == state[key][0]
        assert torch.equal(value, state[key][1])
    own = {p.data_ptr() for p in cifar_resnet.parameters()}
    assert {p.data_ptr() for p in graph.module.parameters()} == own


def test_a_failed_trace_leaves_the_model_as_it_was(cifar_resnet: nn.Module) -> None:
    cifar_resnet.train()
    with pytest.raises(CaptureError, match=r"conv1 fails on an input of shape 2x5x32x32: .*check --input-shape"):
        hant.trace(cifar_resnet, torch.randn(1, 5, 32, 32))
    assert all(m.training for m in cifar_resnet.modules())
    assert not any("Fake" in type(p).__name__ for p in cifar_resnet.parameters())


def test_several_inputs_and_nested_outputs() -> None:
    class TwoTowers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 8), nn.Linear(6, 8)

        def forward(self, a: Tensor, b: Tensor) -> dict[str, object]:
            x, y = self.left(a), self.right(b)
            return {"sum": x + y, "parts": (x, [y]), "rows": a.shape[0], "none": None}

    model = TwoTowers()
    graph = hant.trace(model, (torch.randn(1, 4), torch.randn(1, 6)))
    a, b = torch.randn(7, 4), torch.randn(7, 6)
    expected, found = model(a, b), graph.module(a, b)
    assert found["rows"] == 7
    assert found["none"] is None
    assert torch.equal(found["sum"], expected["sum"])
    assert torch.equal(found["parts"][1][0], expected["parts"][1][0])
    assert [str(s) for s in graph.inputs] == ["4 flat", "6 flat"]


def test_lists_and_dicts_as_inputs() -> None:
    class Joins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(6, 8)

        def forward(self, pair: list[Tensor], named: dict[str, Tensor]) -> Tensor:
            return cast(Tensor, self.a(pair[0]) + self.b(pair[1]) * named["scale"])

    def inputs(batch: int) -> tuple[list[Tensor], dict[str, Tensor]]:
        return [torch.randn(batch, 4), torch.randn(batch, 6)], {"scale": torch.randn(batch, 1)}

    model = Joins()
    graph = hant.trace(model, inputs(1))
    pair, named = inputs(5)
    assert torch.equal(graph.module(pair, named), model(pair, named))
    assert [str(s) for s in graph.inputs] == ["4 flat", "6 flat", "1 flat"]
    assert str(graph).splitlines()[1:4] == [
        "  input %x0",
        "  input %x1",
        "  %getitem = function operator.getitem(%x0, 0) : 2x4",
    ]


def test_include_and_exclude_choose_what_is_replaceable(cifar_resnet: nn.Module) -> None:
    graph = hant.trace(cifar_resnet, images(1), include=["layer*.*"], exclude=["layer1.*", "layer3.1"])
    assert [b.name for b in graph.replaceable] == ["layer2.0", "layer2.1", "layer3.0"]
    with pytest.raises(UsageError, match=r"pattern 'layr2.\*' matches no block; did you mean 'layer2"):
        hant.trace(cifar_resnet, images(1), exclude=["layr2.*"])


@pytest.mark.parametrize("inputs", [(), ("x",), [1]])
def test_inputs_must_be_tensors(cifar_resnet: nn.Module, inputs: object) -> None:
    with pytest.raises(UsageError, match="example_inputs must be a tensor"):
        hant.trace(cifar_resnet, inputs)


def test_in_place_layers_keep_their_meaning() -> None:
    class PreActivation(nn.Module):
        """The shortcut is read after an in-place activation, so it is activated too."""

        def __init__(self) -> None:
            super().__init__()
            self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            shortcut = x
            return cast(Tensor, self.conv(self.relu(x)) + shortcut)

    model = nn.Sequential(nn.Conv2d(3, 3, 1), PreActivation(), PreActivation())
    graph = hant.trace(model, images(1))
    assert torch.equal(graph.module(images(2)), model(images(2)))
    seen = {}
    with graph.observe(lambda block, x, y: seen.update({block.name: (x, y)})):
        graph.module(images(2))
    for name, (x, y) in seen.items():
        copies = x.clone()
        assert torch.equal(graph.block(name).module(copies), y)
    assert [m.inplace for m in model.modules() if isinstance(m, nn.ReLU)] == [True, True]
