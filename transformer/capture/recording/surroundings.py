"""What the recorder must know of the model around an operation: modules that stay whole, tensors that the model holds,
the line of the user's code, results whose shape is known without running what makes them.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ...files.described.layers import is_plain

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_OPENED = (
    *CONTAINERS,
    nn.Module,
    nn.DataParallel,
    nn.ParameterList,
    nn.ParameterDict,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)
_QUANTISED = ("torch.ao.nn.", "torch.nn.quantized.")
PRIMITIVES = tuple(
    value
    for value in vars(nn).values()
    if isinstance(value, type) and issubclass(value, nn.Module) and value not in _OPENED
)
"""The layers of torch.nn."""


class LeafPolicy(Protocol):
    """Decides whether a module call is recorded as one step."""

    def __call__(self, module: nn.Module, tensors: int) -> bool:
        """Return whether ``module``, called with ``tensors`` tensors, stays whole."""
        ...


def designers_leaf(module: nn.Module, tensors: int) -> bool:
    """Keep layers of torch.nn, their subclasses, and childless modules of one tensor whole.

    A subclass of a layer (a batch norm with activation, a convolution with same padding) keeps its behaviour in
    training; a childless module that gets several tensors often uses one for its type only and is opened.
    """
    if isinstance(module, CONTAINERS):
        return False
    if isinstance(module, PRIMITIVES) or type(module).__module__.startswith(_QUANTISED):
        return True
    return tensors == 1 and next(module.children(), None) is None


def exact_leaf(module: nn.Module, tensors: int) -> bool:
    """Keep nothing whole but the layers of torch.nn themselves, without hooks: what a data-only file can name."""
    return type(module) in PRIMITIVES and is_plain(module)


def owned_tensors(model: nn.Module) -> dict[int, str]:
    """Return the path of every tensor that a module holds, by identity."""
    owned: dict[int, str] = {}
    for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in source:
            owned.setdefault(id(tensor), name)
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                owned.setdefault(id(value), f"{path}.{name}" if path else name)
    return owned


_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep


def source_line() -> str:
    """Return ``file:line`` of the innermost frame that is neither torch's nor the recorder's; empty without one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE)):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


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
