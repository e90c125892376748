"""Which kernels a runtime makes of a network."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from hant.backends.cost_model.estimate import kernels
from hant.backends.cost_model.fuse import EAGER, TENSORRT, TENSORRT_7, Fusion
from hant.backends.cost_model.kernel import Kind
from hant.op_library.cost import macs
from hant.op_library.tensor_spec import TensorSpec
from hant.transformer.errors import CaptureError
from torch import Tensor, nn


class Excite(nn.Module):
    """An inverted residual with squeeze and excitation: every kind of kernel."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        wide = 2 * channels
        self.expand, self.norm = nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depth = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.squeeze, self.gate = nn.Conv2d(wide, 4, 1), nn.Conv2d(4, wide, 1)
        self.project = nn.Conv2d(wide, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.depth(F.relu(self.norm(self.expand(x)))))
        y = y * self.gate(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        return cast(Tensor, self.project(y)) + x


IMAGE = torch.zeros(1, 16, 14, 14)


def names(fusion: Fusion) -> list[str]:
    return [kernel.name for kernel in kernels(Excite(), [IMAGE], fusion)]


def test_eager_starts_a_kernel_for_each_operation() -> None:
    assert names(EAGER) == [
        *("convolution", "native_batch_norm", "relu", "convolution", "silu", "mean", "convolution", "relu"),
        *("convolution", "sigmoid", "mul", "convolution", "add"),
    ]


def test_tensorrt_does_what_follows_a_convolution_in_its_kernel() -> None:
    assert names(TENSORRT) == [
        *("convolution+native_batch_norm+relu", "convolution+silu", "mean", "convolution+relu", "convolution"),
        *("sigmoid", "mul", "convolution+add"),
    ]
    assert "silu" in names(TENSORRT_7)


def test_kinds_and_sizes() -> None:
    found = kernels(Excite(), [IMAGE], TENSORRT)
    assert [kernel.kind for kernel in found[:4]] == [Kind.PRODUCT, Kind.DEPTHWISE, Kind.REDUCE, Kind.PRODUCT]
    first, depthwise, last = found[0], found[1], found[-1]
    assert (first.rows, first.columns, first.depth, first.groups) == (196, 32, 16, 1)
    assert (depthwise.rows, depthwise.columns, depthwise.depth, depthwise.groups) == (196, 1, 9, 32)
    assert last.read == 32 * 196 + 16 * 196  # its input, and what is added
    assert last.written == 16 * 196


@pytest.mark.parametrize("fusion", [EAGER, TENSORRT])
def test_no_product_is_lost(fusion: Fusion) -> None:
    counted = sum(kernel.macs for kernel in kernels(Excite(), [IMAGE], fusion))
    assert counted == macs(Excite(), TensorSpec((16, 14, 14)))


@pytest.mark.parametrize("fusion", [EAGER, TENSORRT])
def test_a_batch_is_the_image_many_times(fusion: Fusion) -> None:
    one, many = (kernels(Excite(), [IMAGE.expand(n, -1, -1, -1)], fusion) for n in (1, 8))
    assert tuple(kernel.scaled(8) for kernel in one) == many


def test_fusing_moves_no_more_values() -> None:
    eager, fused = (
        sum(kernel.read + kernel.written for kernel in kernels(Excite(), [IMAGE], fusion))
        for fusion in (EAGER, TENSORRT)
    )
    assert fused < eager


class Twice(nn.Module):
    """The convolution's value is needed before the activation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return cast(Tensor, F.relu(y) * y)


def test_a_value_that_others_need_is_written() -> None:
    assert [kernel.name for kernel in kernels(Twice(), [IMAGE], TENSORRT)] == ["convolution", "relu+mul"]


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_a_module_that_decides_on_values_is_refused_in_one_line() -> None:
    with pytest.raises(CaptureError, match="cannot estimate Decides: ") as caught:
        kernels(Decides(), [IMAGE], EAGER)
    assert "\n" not in str(caught.value)


def test_the_mode_of_the_module_is_left_as_it_was() -> None:
    module = Excite().train()
    kernels(module, [IMAGE], EAGER)
    assert all(part.training for part in module.modules())
