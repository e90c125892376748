"""Arguments of operations as JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ...errors import CaptureError, LoadError

_LARGEST = 2**40
_DEEPEST = 20
_TORCH_KINDS = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}


def to_json(value: Any) -> Any:
    """Return plain data for an argument; nodes become their names.

    Raises:
        CaptureError: an object that data cannot hold.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, tuple):
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_json(item) for key, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [to_json(item) for item in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    for kind, type_ in _TORCH_KINDS.items():
        if isinstance(value, type_):
            return {kind: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": value.type}
    raise CaptureError(f"an argument of type {type(value).__name__} cannot be written as data")


def from_json(value: Any, node: Callable[[str], fx.Node], depth: int = 0) -> Any:
    """Return the argument that ``to_json`` wrote; ``node`` finds a node by name.

    Raises:
        LoadError: not such data.
    """
    if depth > _DEEPEST:
        raise LoadError("an argument is nested too deep")
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        if abs(value) > _LARGEST:
            raise LoadError(f"the number {value} is out of range")
        return value
    if isinstance(value, list):
        return [from_json(item, node, depth + 1) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        kind, content = next(iter(value.items()))
        return _tagged(kind, content, node, depth + 1)
    raise LoadError(f"cannot read the argument {str(value)[:60]!r}")


def _tagged(kind: str, content: Any, node: Callable[[str], fx.Node], depth: int) -> Any:
    if kind == "node" and isinstance(content, str):
        return node(content)
    if kind == "float" and content in ("inf", "-inf", "nan"):
        return float(content)
    if kind == "tuple" and isinstance(content, list):
        return tuple(from_json(item, node, depth) for item in content)
    if kind == "slice" and isinstance(content, list) and len(content) == 3:
        return slice(*(from_json(item, node, depth) for item in content))
    if kind == "dict" and isinstance(content, dict):
        return {key: from_json(item, node, depth) for key, item in content.items()}
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device" and content in ("cpu", "cuda", "mps", "xpu", "meta"):
        return torch.device(content)
    if kind in _TORCH_KINDS and isinstance(content, str):
        found = getattr(torch, content, None) if content.isidentifier() else None
        if isinstance(found, _TORCH_KINDS[kind]):
            return found
    raise LoadError(f"cannot read the argument {kind}: {str(content)[:60]!r}")
