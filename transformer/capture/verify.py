"""Making sure that a captured network computes what the model computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from ..tools.modes import evaluating, preserved
from ..tools.nested import map_leaves
from .arguments import resized

_BATCH = 5
"""Rows of the second comparison: a batch that no recording was made at."""


def verify_same(model: nn.Module, captured: nn.Module, inputs: Sequence[Any], remedy: str) -> None:
    """Run both in eval mode on random data like ``inputs``, at their batch and at another, and compare to the bit.

    Raises:
        CaptureError: they differ, with the largest difference and ``remedy``.
    """
    generator = torch.Generator().manual_seed(0)
    for given in (tuple(inputs), resized(inputs, _BATCH)):
        data = map_leaves(given, lambda tensor: _like(tensor, generator))
        _compare(model, captured, data, remedy)


def _compare(model: nn.Module, captured: nn.Module, data: tuple[Any, ...], remedy: str) -> None:
    with evaluating(model), evaluating(captured), preserved(model), torch.no_grad():
        torch.manual_seed(0)
        expected = _flat(model(*data))
        torch.manual_seed(0)
        found = _flat(captured(*data))
    if len(expected) != len(found):
        raise CaptureError(f"the captured network returns {len(found)} tensors, the model {len(expected)}; {remedy}")
    worst = max((_difference(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)
    if worst > 0:
        raise CaptureError(
            f"the captured network differs from the model by up to {worst:.3g}: the model keeps state between "
            f"calls, or does something that torch's functions do not show; {remedy}"
        )


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch.randn(tensor.shape, generator=generator).to(tensor.dtype).to(tensor.device)


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)):
        return 0.0
    return float((a.double() - b.double()).abs().nan_to_num(float("inf")).max())


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for item in items for tensor in _flat(item)]
