"""A graph as readable text: one line per operation, one line per block."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from ...op_library.tensor_spec import TensorSpec
from .allowed import name_of
from .block import Block

_KEYWORDS = {"call_module": "module", "call_function": "function", "call_method": "method"}


def network_text(module: nn.Module, blocks: Sequence[Block], inputs: Sequence[TensorSpec]) -> str:
    """Return the text of a captured network, its blocks by name and its inputs with their shapes."""
    assert isinstance(module, fx.GraphModule), "a captured graph"
    known = {block.target: block for block in blocks}
    arguments = [node for node in module.graph.nodes if node.op == "placeholder"]
    nested = len(arguments) != len(inputs)  # lists of tensors, say: the lines that take them out tell the shapes
    shapes = {} if nested else dict(zip(arguments, inputs, strict=True))
    notes = ((_line(node, known), _note(node, known, shapes)) for node in module.graph.nodes)
    lines = (f"  {line} : {note}" if note else f"  {line}" for line, note in notes)
    return "\n".join([f"network {type(module).__name__}", *lines]) + "\n"


def _line(node: fx.Node, blocks: dict[str, Block]) -> str:
    """Return ``%name = keyword target(arguments)``."""
    if node.op == "placeholder":
        return f"input %{node.name}"
    if node.op == "output":
        return f"return {write(node.args[0])}"
    if node.op == "get_attr":
        return f"%{node.name} = attribute {node.target}"
    keyword, target = _KEYWORDS[node.op], node.target
    if node.op == "call_module" and target in blocks:
        keyword, target = "block", blocks[str(target)].name
    elif not isinstance(target, str):
        target = name_of(target) or _qualified(target)
    given = [write(arg) for arg in node.args] + [f"{key}={write(value)}" for key, value in node.kwargs.items()]
    return f"%{node.name} = {keyword} {target}({', '.join(given)})"


def _note(node: fx.Node, blocks: dict[str, Block], shapes: Mapping[fx.Node, TensorSpec]) -> str:
    """Return what follows the colon; it has no meaning for the computation."""
    if node.op == "call_module" and node.target in blocks:
        block = blocks[str(node.target)]
        parts = [
            f"{block.kind} {block.class_name}",
            f"{block.input} -> {block.output}",
            f"{block.macs} MACs",
            f"{block.parameters} parameters",
        ]
        return ", ".join(parts + ["identity fits"] * block.identity_allowed + ["kept"] * (not block.replaceable))
    if node.op == "placeholder":
        return str(shapes.get(node, ""))
    shape = node.meta.get("shape") if node.op != "output" else None
    return "x".join(map(str, shape)) if shape else ""


def _qualified(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}".lstrip(".")


def write(value: Any) -> str:
    """Return the text of an argument: nodes by name, what torch names as torch does, all else as Python would."""
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return str(value)
    if isinstance(value, torch.device):
        return f"device.{value.type}"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float.{'nan' if value != value else 'inf' if value > 0 else 'minus_inf'}"
    if value is Ellipsis:
        return "..."
    if isinstance(value, slice):
        return f"slice({', '.join(write(item) for item in (value.start, value.stop, value.step))})"
    if isinstance(value, tuple):
        inner = ", ".join(write(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return f"[{', '.join(write(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {write(item)}" for key, item in value.items()) + "}"
    return repr(value)
