"""Results whose shape is known without running what makes them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_PARAMETERS = {
    F.batch_norm: ("running_mean", "running_var", "weight", "bias"),
    F.layer_norm: ("normalized_shape", "weight", "bias"),
}
"""Normalisations -> their arguments after ``input`` that must agree with it in size."""


def normalised(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a fake tensor like that of a batch norm or layer norm, or None if it is neither, or would fail.

    Fake tensors take these apart into some twenty operations: most of the time of capturing a network.
    """
    if func not in _PARAMETERS or not args or not isinstance(args[0], FakeTensor):
        return None
    x, names = args[0], _PARAMETERS[func]
    given = [value for value in (*args[1 : len(names) + 1], *(kwargs.get(n) for n in names)) if value is not None]
    sizes = [tuple(value.shape) if isinstance(value, Tensor) else tuple(value) for value in given]
    expected = tuple(x.shape[1:2]) if func is F.batch_norm else tuple(x.shape[x.dim() - len(sizes[0]) :])
    return torch.empty_like(x) if all(size == expected for size in sizes) else None
