"""Nested tuples, lists and dictionaries: map, walk, and pick the tensors of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every leaf of its tuples, lists, dicts and slices changed."""
    if isinstance(value, torch.Size):
        return tuple(change(item) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(item, change) for item in value))
    if isinstance(value, tuple):
        return tuple(map_leaves(item, change) for item in value)
    if isinstance(value, list):
        return [map_leaves(item, change) for item in value]
    if isinstance(value, dict):
        return {key: map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_leaves(item, change) for item in (value.start, value.stop, value.step)))
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists, dicts and slices."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, slice):
        yield from leaves((value.start, value.stop, value.step))
    else:
        yield value


def form(value: Any) -> Any:
    """Return how tuples, lists and dicts are nested in a value, with None for each leaf."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    return [form(item) for item in value] if isinstance(value, tuple | list) else None


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors among the leaves; of a network's outputs, in the order in which a runtime returns them."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
