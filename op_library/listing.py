"""What the operations of a pool would cost between two tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..transformer.errors import UnfitError
from .cost import macs, parameters
from .op_spec import OpSpec
from .tensor_spec import TensorSpec


@dataclass(frozen=True)
class OperationCost:
    """Cost of one operation, or why it has none."""

    operation: str
    family: str
    macs: int | None
    """Multiply-accumulates for one sample; None where the operation does not fit."""
    parameters: int | None
    """Trainable values; None where the operation does not fit."""
    reason: str = ""
    """Why it does not fit, or why its cost is the block's own."""


def describe(pool: Sequence[OpSpec], input: TensorSpec, output: TensorSpec) -> tuple[OperationCost, ...]:
    """Return the cost of each operation of ``pool`` between ``input`` and ``output``, in the pool's order.

    Modules are made without memory for their weights, so shapes may be as large as a network's.
    """
    return tuple(_describe(spec, input, output) for spec in pool)


def _describe(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> OperationCost:
    if spec.family == "teacher":
        return OperationCost(spec.name, spec.family, None, None, "costs what the block costs")
    reason = spec.unfit(input, output)
    if reason is None:
        try:
            with torch.device("meta"):
                module = spec.build(input, output)
        except UnfitError as error:
            return OperationCost(spec.name, spec.family, None, None, str(error))
        return OperationCost(spec.name, spec.family, macs(module, input), parameters(module))
    return OperationCost(spec.name, spec.family, None, None, reason)
