"""Leaving the model as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Undo whatever happens to the model inside the ``with``: attributes, caches, buffers, modes, random state.

    Modules cache tensors on themselves while they run (bias tables, position encodings); after a recording those
    would be fake tensors without data. Values of parameters are not restored: no forward writes them.
    """
    undo = [_remember(module.__dict__) for module in model.modules()]
    buffers = [(b, b.detach().clone(), b._version) for b in model.buffers()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for restore in undo:
            restore()
        with torch.no_grad():
            for buffer, value, version in buffers:
                if buffer._version != version:
                    buffer.copy_(value)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode inside the ``with`` and give each its own mode back after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _remember(attributes: dict[str, Any]) -> Callable[[], None]:
    """Return a call that gives ``attributes``, and the plain containers in it, their present content back."""
    saved = dict(attributes)
    contents = [(value, value.copy()) for value in attributes.values() if type(value) in (dict, list, set)]

    def restore() -> None:
        if _changed(attributes, saved):
            attributes.clear()
            attributes.update(saved)
        for container, content in contents:
            if _changed(container, content):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)

    return restore


def _changed(now: Any, before: Any) -> bool:
    """Compare containers by identity of their items: tensors have no usable equality."""
    if len(now) != len(before):
        return True
    if isinstance(now, dict):
        return any(a != b or now[a] is not before[b] for a, b in zip(now, before, strict=True))
    return any(a is not b for a, b in zip(now, before, strict=True))
