"""Changing submodules without touching the original: copy the path to them, share the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_TORCHS = frozenset(vars(nn.Module()))
"""Attributes that torch gives every module: its parameters, buffers, submodules and hooks."""


def with_submodules(module: nn.Module, change: Mapping[str, nn.Module]) -> nn.Module:
    """Return ``module`` with other submodules at the given paths.

    Only the modules on the way to a changed one are copied, and those shallowly: parameters, buffers and all other
    submodules are the original objects. Hooks stay; what is registered on a copy later is the copy's alone.
    """
    if "" in change:
        return change[""]
    copy = _shallow(module)
    below: dict[str, dict[str, nn.Module]] = {}
    for path, new in change.items():
        head, _, rest = path.partition(".")
        below.setdefault(head, {})[rest] = new
    for head, inner in below.items():
        child = module._modules[head]
        assert child is not None, head
        copy._modules[head] = with_submodules(child, inner)
    return copy


def holds(module: nn.Module, path: str, expected: nn.Module) -> bool:
    """Return whether ``expected`` is the submodule at ``path`` and its code is reached through the module tree alone.

    A module on the way that keeps a bound method, or another way to a module, could run past the copy.
    """
    here: nn.Module = module
    for part in path.split("."):
        if _has_side_door(here):
            return False
        below = here._modules.get(part)
        if below is None:
            return False
        here = below
    return here is expected


def _shallow(module: nn.Module) -> nn.Module:
    copy = type(module).__new__(type(module)) if not _is_graph_module(module) else object.__new__(type(module))
    for name, value in module.__dict__.items():  # a user's containers may be shared with other modules on purpose
        copy.__dict__[name] = value.copy() if name in _TORCHS and isinstance(value, dict | set) else value
    return copy


def _is_graph_module(module: nn.Module) -> bool:
    """GraphModule makes a class of its own for each instance in ``__new__``; the copy may share its original's."""
    return any(base.__name__ == "GraphModule" for base in type(module).__mro__)


def _has_side_door(module: nn.Module) -> bool:
    plain = (value for key, value in module.__dict__.items() if not key.startswith("_"))
    return any(_reaches_modules(value) for value in plain)


def _reaches_modules(value: Any, depth: int = 2) -> bool:
    if isinstance(value, nn.Module) or isinstance(getattr(value, "__self__", None), nn.Module):
        return True
    if depth and isinstance(value, list | tuple | set):
        return any(_reaches_modules(item, depth - 1) for item in value)
    if depth and isinstance(value, dict):
        return any(_reaches_modules(item, depth - 1) for item in value.values())
    return False
