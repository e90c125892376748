"""Which channels of a block may become fewer, and why others may not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hant.op_library.channels import Channels, inner_channels
from hant.op_library.tensor_spec import Layout, TensorSpec
from torch import Tensor, nn

MAP = TensorSpec((8, 6, 6))
TOKENS = TensorSpec((5, 8), layout=Layout.TOKENS)


def found(module: nn.Module, spec: TensorSpec = MAP) -> dict[str, Channels]:
    return {group.layer: group for group in inner_channels(module, spec)}


def conv(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)


class Gated(nn.Module):
    """An inverted residual with a gate on its inner channels."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm, self.deep = conv(8, 24), nn.BatchNorm2d(24), conv(24, 24, 3, groups=24)
        self.squeeze, self.excite, self.narrow = conv(24, 6), conv(6, 24), conv(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.deep(F.relu6(self.norm(self.wide(x)), inplace=True)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        result: Tensor = x + self.narrow(y * gate)
        return result


def test_a_gate_and_its_map_are_one_group() -> None:
    groups = found(Gated())
    assert set(groups) == {"wide", "squeeze", "narrow"}
    wide = groups["wide"]
    assert (wide.size, wide.fixed) == (24, "")
    assert dict.fromkeys(wide.consumers) == dict.fromkeys([("squeeze.weight", 1), ("narrow.weight", 1)])
    norm = {(f"norm.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")}
    layers = {(f"{layer}.{name}", 0) for layer in ("wide", "deep", "excite") for name in ("weight", "bias")}
    assert set(wide.axes) == norm | layers | set(wide.consumers)
    assert groups["squeeze"].fixed == "the channels of squeeze see maps of 1x1 only, as inside a gate"
    assert groups["narrow"].fixed == "the channels of narrow are the block's input"


class Mlp(nn.Module):
    """A transformer's: norm, hidden layer, scale, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.inner = nn.LayerNorm(32)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.scale * self.down(self.inner(F.gelu(self.up(self.norm(x)))))
        return result


def test_hidden_layers_of_tokens_and_of_maps_that_are_permuted() -> None:
    assert {name: bool(group.fixed) for name, group in found(Mlp(), TOKENS).items()} == {"up": False, "down": True}

    class Permuted(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    up = found(Permuted())["up"]
    assert up.fixed == ""
    assert {("inner.weight", 0), ("inner.bias", 0), ("down.weight", 1)} < set(up.axes)


class Mixing(nn.Module):
    """Linear layers over the tokens: their channels are an axis that the block's input has in another place."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.down(F.gelu(self.up(x.transpose(1, 2)))).transpose(1, 2)
        return result


def test_layers_over_tokens_have_channels_of_their_own() -> None:
    assert found(Mixing(), TOKENS)["up"].fixed == ""


class Two(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: nn.Module, middle: int = 16, read: int = 16) -> None:
        super().__init__()
        self.first, self.between, self.second = conv(8, middle, 3), between, conv(read, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.between(self.first(x)))
        return result


class Does(nn.Module):
    """A function as a layer."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)  # type: ignore[operator]
        return result


def test_layers_that_keep_channels() -> None:
    layers = (nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Dropout(0.5), conv(16, 16, 3, 16))
    functions = (
        lambda x: x.view(x.shape[0], 16, -1).view(x.shape[0], 16, 6, 6),
        lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).unflatten(2, (6, 6)),
        lambda x: x.add_(1) * 2 - x.abs(),
        lambda x: x.amax(3).unsqueeze(3),
    )
    for keeping in (*layers, *map(Does, functions)):
        assert found(Two(keeping))["first"].fixed == "", keeping


def test_reasons_why_channels_are_fixed() -> None:
    def reason(between: object, middle: int = 16, read: int = 16, layer: str = "first") -> str:
        module = between if isinstance(between, nn.Module) else Does(between)
        return found(Two(module, middle, read))[layer].fixed

    first = "the channels of first "
    assert reason(conv(16, 16, 3, 4)) == first + "meet between, which has 4 groups"
    assert reason(conv(16, 16, 3, 4), layer="between") == "the channels of between meet between, which has 4 groups"
    assert reason(lambda x: torch.cat([x, x], 1), 16, 32) == first + "go through cat"
    assert reason(lambda x: x.chunk(2, 1)[0], 32) == first + "go through chunk"
    assert reason(lambda x: x.flip(1)) == first + "go through flip"
    assert reason(lambda x: x[:, ::2], 32) == first + "go through __getitem__"
    assert reason(lambda x: x.view(-1, 4, 4, 6, 6).transpose(1, 2).reshape(-1, 16, 6, 6)) == first + "go through view"
    assert reason(lambda x: x.mean(1, keepdim=True) * torch.ones(16, 1, 1)) == first + "go through mean"
    assert (
        reason(lambda x: x * torch.arange(16.0).view(16, 1, 1))
        == first + "meet values that no layer of the block makes"
    )
    assert reason(nn.GroupNorm(4, 16)) == first + "go through group_norm"
    assert reason(nn.LayerNorm((16, 6, 6))) == first + "are normalised together with other axes, or without weights"
    assert reason(lambda x: F.batch_norm(x, None, None, torch.ones(16) * 2, training=True)) == (
        first + "are normalised by weights that are computed"
    )
    assert reason(lambda x: F.conv2d(x, torch.ones(16, 16, 1, 1))) == first + "are read by weights that are computed"
    assert reason(nn.Identity(), layer="second") == "the channels of second are the block's output"


def test_channels_that_nothing_reads() -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.side = conv(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = x * self.side(x).shape[1]
            return result

    assert found(Ends())["side"].fixed == "the channels of side are read by no dense layer"


def test_the_block_is_left_as_it_was() -> None:
    module = Gated().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    inner_channels(module, MAP)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
