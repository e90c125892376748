"""A graph as readable text: one line per operation, one line per block."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ...op_library.tensor_spec import TensorSpec
from .allowed import name_of
from .block import Block

KEYWORDS = {
    "call_module": "module",
    "call_function": "function",
    "call_method": "method",
    "get_attr": "attribute",
}


@dataclass(frozen=True)
class Value:
    """A reference to a line's result, ``%name`` in text."""

    name: str


@dataclass(frozen=True)
class Named:
    """A constant that torch names: a type, a memory format, a device; ``torch.float32`` or ``device.cpu`` in text."""

    name: str


@dataclass(frozen=True)
class Line:
    """One operation: ``%name = keyword target(arguments) : note``."""

    name: str
    keyword: str
    """``input``, ``block``, ``module``, ``function``, ``method``, ``attribute`` or ``return``."""
    target: str = ""
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    note: str = ""
    """What follows the colon; it has no meaning for the computation."""

    def __str__(self) -> str:
        note = f" : {self.note}" if self.note else ""
        if self.keyword == "input":
            return f"input %{self.name}{note}"
        if self.keyword == "return":
            return f"return {write(self.args[0])}"
        given = [write(arg) for arg in self.args] + [f"{key}={write(value)}" for key, value in self.kwargs]
        call = "" if self.keyword == "attribute" else f"({', '.join(given)})"
        return f"%{self.name} = {self.keyword} {self.target}{call}{note}"


def network_text(module: nn.Module, blocks: Sequence[Block], inputs: Sequence[TensorSpec]) -> str:
    """Return the text of a captured network, its blocks by name and its inputs with their shapes."""
    assert isinstance(module, fx.GraphModule), "a captured graph"
    known = {block.target: block for block in blocks}
    arguments = [node for node in module.graph.nodes if node.op == "placeholder"]
    nested = len(arguments) != len(inputs)  # lists of tensors, say: the lines that take them out tell the shapes
    shapes = {} if nested else dict(zip(arguments, inputs, strict=True))
    lines = []
    for node in module.graph.nodes:
        note = str(shapes.get(node, "")) if node.op == "placeholder" else _shape(node)
        lines.append(_line(node, known, note))
    return "\n".join([f"network {type(module).__name__}", *(f"  {line}" for line in lines)]) + "\n"


def _line(node: fx.Node, blocks: dict[str, Block], note: str) -> Line:
    args, kwargs = _plain(node.args), tuple((key, _plain(value)) for key, value in node.kwargs.items())
    if node.op == "placeholder":
        return Line(node.name, "input", note=note)
    if node.op == "output":
        return Line("", "return", args=args)
    if node.op == "call_module" and node.target in blocks:
        block = blocks[str(node.target)]
        return Line(node.name, "block", block.name, args, note=_block_note(block))
    target = node.target if isinstance(node.target, str) else name_of(node.target) or _qualified(node.target)
    return Line(node.name, KEYWORDS[node.op], str(target), args, kwargs, note)


def _block_note(block: Block) -> str:
    parts = [
        f"{block.kind} {block.class_name}",
        f"{block.input} -> {block.output}",
        f"{block.macs} MACs",
        f"{block.parameters} parameters",
    ]
    return ", ".join(parts + ["identity fits"] * block.identity_allowed + ["kept"] * (not block.replaceable))


def _shape(node: fx.Node) -> str:
    shape = node.meta.get("shape")
    return "x".join(map(str, shape)) if shape else ""


def _qualified(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}".lstrip(".")


def _plain(value: Any) -> Any:
    """Return an fx argument with text values in place of nodes and of torch's constants."""
    if isinstance(value, fx.Node):
        return Value(value.name)
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_plain(item) for item in (value.start, value.stop, value.step)))
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return Named(str(value))
    if isinstance(value, torch.device):
        return Named(f"device.{value.type}")
    return value


def write(value: Any) -> str:
    """Return the text of an argument."""
    if isinstance(value, Value):
        return f"%{value.name}"
    if isinstance(value, Named):
        return value.name
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
