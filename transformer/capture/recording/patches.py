"""Sending what torch does not let a mode see through the recorder: calls of modules and of autograd functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .recorder import Recorder


@contextmanager
def module_calls(recorder: Recorder) -> Iterator[None]:
    """Send every call of a module through the recorder inside the ``with``."""
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return recorder.call_module(original, module, args, kwargs)

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        with _noted_functions(recorder):
            yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


@contextmanager
def _noted_functions(recorder: Recorder) -> Iterator[None]:
    """Note custom autograd functions inside the ``with``: what they compute is recorded, their backward is not."""
    function: Any = torch.autograd.Function
    original = vars(function)["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        recorder.note_function(cls.__name__)
        return original.__get__(None, cls)(*args, **kwargs)

    function.apply = classmethod(apply)
    try:
        yield
    finally:
        function.apply = original
