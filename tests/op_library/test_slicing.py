"""Slices as parts of a block's own tensors, and as copies of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hant.op_library.slicing import in_order, narrowed, sliceable_channels, sliced, table, width_of
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.tests.op_library.test_channels import MAP, TOKENS, Gated, Mlp, conv, found
from torch import Tensor, nn
from torch.func import functional_call

BLOCKS = ((Gated, MAP), (Mlp, TOKENS))


class Deep(nn.Module):
    """Depthwise 7x7 with dilation, then two pointwise layers, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(8, 8, 7, padding=6, dilation=2, groups=8)
        self.norm, self.up, self.down = nn.BatchNorm2d(8), conv(8, 32, 5), conv(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.down(torch.relu(self.up(self.norm(self.deep(x)))))
        return result


def blocks() -> Iterator[tuple[nn.Module, TensorSpec]]:
    torch.manual_seed(0)
    for make, spec in (*BLOCKS, (Deep, MAP)):
        module = make()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
                nn.init.uniform_(layer.running_mean)
                nn.init.uniform_(layer.running_var, 0.5, 2)
        yield module.eval(), spec


@pytest.mark.parametrize(
    ("size", "share", "kept"),
    [
        (64, 0.5, 32),
        (64, 0.25, 16),
        (40, 0.5, 24),
        (24, 0.5, 12),
        (24, 0.75, 20),
        (12, 0.25, 4),
        (3, 0.5, 3),
        (64, 1, 64),
    ],
)
def test_widths_are_multiples_of_what_devices_like(size: int, share: float, kept: int) -> None:
    up = found(nn.Sequential(conv(8, size), conv(size, 8)))["0"]
    assert width_of(up, share) == kept


def test_a_block_in_order_computes_the_same() -> None:
    for module, spec in blocks():
        channels = sliceable_channels(module, spec)
        ordered = in_order(module, channels)
        x = spec.random(3)
        torch.testing.assert_close(ordered(x), module(x), rtol=1e-4, atol=1e-5)
        free = next(group for group in channels if not group.fixed)
        strength = sum(
            ordered.get_parameter(name).abs().transpose(0, axis).flatten(1).sum(1) for name, axis in free.consumers
        )
        assert isinstance(strength, Tensor)
        assert (strength.diff() <= 1e-5).all()


def test_a_slice_of_shared_tensors_is_its_copy_to_the_bit() -> None:
    """Outputs in both modes, and gradients of the shared tensors, which are 0 outside of the slice."""
    for module, spec in blocks():
        channels = sliceable_channels(module, spec)
        shared = in_order(module, channels)
        parts = table(shared, channels, 0.5, 3)
        own, shell = narrowed(shared, parts), narrowed(shared, parts)
        x = spec.random(3)
        for training in (False, True):
            own.train(training)
            shell.train(training)
            buffers = dict(copy.deepcopy(shell).named_buffers())
            seen = functional_call(shell, {**sliced(shared, parts), **buffers}, (x,))
            alone = own(x)
            assert torch.equal(seen, alone)
            shared.zero_grad()
            own.zero_grad()
            seen.square().sum().backward()
            alone.square().sum().backward()
            for name, parameter in own.named_parameters():
                whole = shared.get_parameter(name).grad
                assert whole is not None
                assert parameter.grad is not None
                scattered = torch.zeros_like(whole)
                scattered[parts.get(name, ())] = parameter.grad
                assert torch.equal(whole, scattered), name


def test_kernels_keep_their_centres_and_the_size_of_the_map() -> None:
    torch.manual_seed(0)
    module = Deep().eval()
    channels = sliceable_channels(module, MAP)
    slim = narrowed(module, table(module, channels, 1, 3))
    deep, up = slim.get_submodule("deep"), slim.get_submodule("up")
    assert isinstance(deep, nn.Conv2d)
    assert isinstance(up, nn.Conv2d)
    assert (deep.kernel_size, deep.padding, up.kernel_size, up.padding) == ((3, 3), (2, 2), (3, 3), (1, 1))
    assert torch.equal(deep.weight, module.deep.weight[:, :, 2:5, 2:5])
    masked = copy.deepcopy(module)
    for layer, border in ((masked.deep, 2), (masked.up, 1)):
        mask = torch.zeros_like(layer.weight)
        mask[:, :, border:-border, border:-border] = 1
        layer.weight.data *= mask
    x = MAP.random(2)
    torch.testing.assert_close(slim(x), masked(x))


def test_a_slice_is_the_block_without_the_channels_it_leaves_out() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(conv(8, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), conv(32, 8, 3)).eval()
    channels = sliceable_channels(module, MAP)
    ordered = in_order(module, channels)
    slim = narrowed(ordered, table(ordered, channels, 0.25, 0))
    last = ordered.get_submodule("3")
    assert isinstance(last, nn.Conv2d)
    last.weight.data[:, 8:] = 0
    x = MAP.random(2)
    torch.testing.assert_close(slim(x), ordered(x), rtol=1e-4, atol=1e-5)
    assert [tuple(parameter.shape) for parameter in slim.parameters()][:2] == [(8, 8, 3, 3), (8,)]
    assert not {p.data_ptr() for p in slim.parameters()} & {p.data_ptr() for p in module.parameters()}


class Cunning(nn.Module):
    """Tells its channels apart out of sight of torch functions."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = conv(8, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        with torch._C.DisableTorchFunction():
            factor = torch.arange(16.0).view(1, 16, 1, 1)
        y.data.mul_(factor)
        result: Tensor = self.down(y)
        return result


def test_channels_whose_order_matters_are_found_by_trying() -> None:
    module = Cunning().eval()
    assert found(module)["up"].fixed in ("", "the channels of up meet values that no layer of the block makes")
    groups = {group.layer: group.fixed for group in sliceable_channels(module, MAP)}
    assert groups["up"]


def test_shared_weights_stay_shared() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
            self.other = self.up

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.down(torch.relu(self.up(x)) + torch.tanh(self.other(x)))
            return result

    module, spec = Tied().eval(), TensorSpec((5, 8), layout=Layout.TOKENS)
    channels = sliceable_channels(module, spec)
    slim = narrowed(module, table(module, channels, 0.5, 0))
    assert slim.get_submodule("up") is slim.get_submodule("other")
    assert slim.get_submodule("up").get_parameter("weight").shape == (16, 8)
