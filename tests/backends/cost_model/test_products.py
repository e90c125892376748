"""Products of a value with itself, and those that something is added to, as the cost model sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hant.backends.cost_model.fuse import EAGER, PRODUCTS, fuse
from hant.backends.cost_model.walk import walk
from torch import Tensor, nn
from torch.nn import functional


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "product"),
    [
        (lambda x: torch.bmm(x, x), (6, 6, 6, 2)),
        (lambda x: torch.baddbmm(x[:, :1], x, x), (6, 6, 6, 2)),
        (lambda x: torch.addmm(x[0, :1], x[0, :2], x[1]), (2, 6, 6, 1)),
        (lambda x: functional.scaled_dot_product_attention(x[None], x[None], x[None]), (6, 6, 12, 2)),
        (lambda x: functional.conv2d(x[None], x[:, None, :3, :3], groups=2), (16, 1, 9, 2)),
    ],
    ids=["bmm", "baddbmm", "addmm", "attention", "convolution"],
)
def test_a_product_is_counted_by_its_factors(
    function: Callable[[Tensor], Tensor], product: tuple[int, int, int, int]
) -> None:
    graph, operations = walk(Of(function), (torch.randn(2, 6, 6),))
    (kernel,) = (kernel for kernel in fuse(graph, operations, EAGER) if kernel.name in PRODUCTS)
    assert (kernel.rows, kernel.columns, kernel.depth, kernel.groups) == product
