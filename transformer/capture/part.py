"""A part of a larger model, and what the model gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError, UsageError, nearest
from ..tools.modes import evaluating, preserved
from .arguments import checked


class _Reached(Exception):  # noqa: N818  (no error: it ends the run where the part begins)
    def __init__(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.arguments, self.keywords = arguments, keywords


def part_of(model: nn.Module, path: str, inputs: Sequence[Any]) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return the submodule at ``path`` and the arguments of its first call when the model runs on ``inputs``.

    The model runs in eval mode, on data, up to that call; it is left as it was.

    Raises:
        UsageError: no submodule of that name, with the nearest.
        CaptureError: the model does not get there, or gives it something that is no tensor.
    """
    known = [name for name, _ in model.named_modules() if name]
    if path not in known:
        raise UsageError(f"--submodule: the model has no submodule {path!r}{nearest(path, known)}")
    part = model.get_submodule(path)
    reached = _run_up_to(part, model, path, inputs)
    if reached.keywords:
        names = ", ".join(reached.keywords)
        raise CaptureError(f"submodule {path} is called with keywords ({names}); choose one inside or around it")
    try:
        return part, checked(tuple(_plain(argument) for argument in reached.arguments))
    except UsageError as error:
        kinds = ", ".join(type(argument).__name__ for argument in reached.arguments) or "nothing"
        raise CaptureError(
            f"submodule {path} is called with {kinds}; a part that can be captured is called with tensors, or lists "
            "and dicts of them; choose one inside or around it"
        ) from error


def _run_up_to(part: nn.Module, model: nn.Module, path: str, inputs: Sequence[Any]) -> _Reached:
    def stop(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        raise _Reached(arguments, keywords)

    handle = part.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with evaluating(model), preserved(model), torch.no_grad():
            model(*inputs)
    except _Reached as reached:
        return reached
    except Exception as error:  # code of the user's model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CaptureError(
            f"the model fails before it calls submodule {path}: {reason}; check --input-shape"
        ) from error
    finally:
        handle.remove()
    raise CaptureError(f"the model does not call submodule {path} on this input; choose one that it runs")


def _plain(argument: Any) -> Any:
    """Return an argument with ordinary dicts for mappings such as OrderedDict."""
    return dict(argument) if isinstance(argument, dict) else argument
