"""Activations by name: what an operation may use, and what a teacher's block does use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from ..transformer.errors import UsageError, nearest

_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "elu": nn.ELU,
    "mish": nn.Mish,
}
_FUNCTIONS: dict[Callable[..., Any] | str, str] = {
    torch.relu: "relu",
    torch.relu_: "relu",
    functional.relu: "relu",
    functional.relu6: "relu6",
    functional.silu: "silu",
    functional.gelu: "gelu",
    functional.hardswish: "hardswish",
    functional.elu: "elu",
    functional.mish: "mish",
    torch.ops.aten.relu.default: "relu",
    torch.ops.aten.relu_.default: "relu",
    torch.ops.aten.silu.default: "silu",
    torch.ops.aten.silu_.default: "silu",
    torch.ops.aten.gelu.default: "gelu",
    torch.ops.aten.hardswish.default: "hardswish",
    torch.ops.aten.hardswish_.default: "hardswish",
    "relu": "relu",
    "relu_": "relu",
}
ACTIVATIONS = tuple(_MODULES)
"""Names that an operation's ``activation`` may have."""


def activation(name: str) -> nn.Module:
    """Return the activation called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in _MODULES:
        raise UsageError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return _MODULES[name]()


def final(block: nn.Module) -> str | None:
    """Return the activation that makes the output of a block, such as the ReLU after a residual sum.

    None where the block ends otherwise, or where ``torch.fx`` cannot trace it.
    """
    if _of_module(block) is not None:
        return _of_module(block)
    if not isinstance(block, fx.GraphModule):
        try:
            block = fx.symbolic_trace(block)
        except Exception:  # whatever the user's code raises when it meets a proxy
            return None
    node = next(node for node in block.graph.nodes if node.op == "output").args[0]
    while isinstance(node, fx.Node) and node.op == "call_module":
        inner = block.get_submodule(str(node.target))
        if not isinstance(inner, nn.Identity | nn.Dropout):
            return final(inner)
        node = node.args[0]
    return _of_call(node) if isinstance(node, fx.Node) else None


def clamps(name: str | None) -> bool:
    """Return whether an activation leaves alone whatever it has made itself, so that it suits any output of a block."""
    return name in ("relu", "relu6")


def _of_module(module: nn.Module) -> str | None:
    return next((name for name, kind in _MODULES.items() if type(module) is kind), None)


def _of_call(node: fx.Node) -> str | None:
    return _FUNCTIONS.get(node.target) if node.op in ("call_function", "call_method") else None
