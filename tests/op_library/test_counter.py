"""MACs against a count of what is computed, parameters against torch."""

from __future__ import annotations

import math
from typing import Any

import hant
import pytest
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.op_spec import OpSpec
from hant.op_library.tensor_spec import TensorSpec
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

POOL = tuple(spec for spec in hant.pool("hant-197") if spec.name not in ("teacher", "identity"))


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiplications of every operation that torch runs, by the shapes of its real tensors."""

    count: int = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name == "convolution":
            self.count += made.numel() * args[1][0].numel()
        elif name in ("mm", "bmm"):
            self.count += made.numel() * args[0].shape[-1]
        elif name == "addmm":
            self.count += made.numel() * args[1].shape[-1]
        elif "scaled_dot_product" in name:
            batch, heads, queries, depth = args[0].shape
            self.count += 2 * batch * heads * queries * args[1].shape[2] * depth
        return made


def independent(module: nn.Module, input: TensorSpec) -> int:
    products = Products()  # type: ignore[no-untyped-call]
    with torch.no_grad(), products:
        module.eval()(input.random(1))
    return int(products.count)


def check(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> None:
    module = spec.build(input, output)
    assert macs(module, input) == independent(module, input)
    assert parameters(module) == sum(math.prod(value.shape) for _, value in module.named_parameters())


@pytest.mark.parametrize("spec", POOL[::7], ids=str)
def test_macs_are_the_products_that_torch_computes(spec: OpSpec) -> None:
    check(spec, TensorSpec((16, 14, 14)), TensorSpec((24, 7, 7)))


@pytest.mark.slow
@pytest.mark.parametrize("spec", POOL, ids=str)
def test_macs_of_every_operation_are_the_products_that_torch_computes(spec: OpSpec) -> None:
    check(spec, TensorSpec((24, 33, 33)), TensorSpec((24, 33, 33)))
