"""Example arguments of a network: tensors, or tuples, lists and dicts of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError, UsageError
from ..tools.nested import leaves, map_leaves


def checked(example_inputs: Any) -> tuple[Any, ...]:
    """Return the positional arguments that ``example_inputs`` stands for: one tensor, or a sequence of arguments.

    Raises:
        UsageError: anything in them is no tensor.
        CaptureError: the first tensor has no dimension for the batch.
    """
    given = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    found = list(leaves(given)) if isinstance(given, tuple | list) else []
    if not found or not all(isinstance(leaf, Tensor) for leaf in found):
        raise UsageError("example_inputs must be a tensor or a sequence of tensors; give torch.randn(1, 3, 224, 224)")
    if found[0].dim() == 0:
        raise CaptureError("the first example input has no batch dimension; give a tensor of shape (B, ...)")
    return tuple(given)


def tensors_of(arguments: Sequence[Any]) -> list[Tensor]:
    """Return the tensors in order."""
    return list(leaves(tuple(arguments)))


def resized(arguments: Sequence[Any], batch: int) -> tuple[Any, ...]:
    """Make arguments of ``batch`` samples like the given ones; data is random, to be like data in range.

    Dimension 0 of the first tensor is the batch; other tensors with that size follow it.
    """
    rows = tensors_of(arguments)[0].shape[0]

    def like(tensor: Tensor) -> Tensor:
        shape = (batch, *tensor.shape[1:]) if tensor.dim() and tensor.shape[0] == rows else tuple(tensor.shape)
        make = torch.rand if tensor.is_floating_point() else torch.zeros
        return make(shape, dtype=tensor.dtype, device=tensor.device)

    made: tuple[Any, ...] = map_leaves(tuple(arguments), like)
    return made
