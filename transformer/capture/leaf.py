"""Which modules stay whole when an execution is recorded."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from ..ir.layers import is_plain

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
