"""Deep copies of users' networks, which may hold what cannot be copied."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

from ..errors import CaptureError

N = TypeVar("N", bound=nn.Module | None)
_OWN = ("_modules", "_parameters", "_buffers")


def copied(*networks: N) -> tuple[N, ...]:
    """Return deep copies of networks that share parts, which the copies share too.

    An attribute that cannot be copied (a lock, an open file, a handle) is the original's in the copy as well; a tensor
    that was computed is copied without its history.

    Raises:
        CaptureError: a network refuses to be copied in a way of its own.
    """
    try:
        return copy.deepcopy(networks)
    except Exception:  # whatever the attributes' own code raises
        memo = _uncopyable(networks)
    try:
        return copy.deepcopy(networks, memo)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        names = ", ".join(type(network).__name__ for network in networks if network is not None)
        raise CaptureError(f"{names} cannot be copied: {reason}; a student begins as a copy of its teacher") from error


def _uncopyable(networks: tuple[nn.Module | None, ...]) -> dict[int, Any]:
    """Return what stands for each attribute that cannot be copied, by the attribute's identity."""
    modules = {id(module): module for network in networks if network is not None for module in network.modules()}
    shared: dict[int, Any] = dict(modules)
    shared |= {id(t): t for m in modules.values() for t in (*m._parameters.values(), *m._buffers.values())}
    memo: dict[int, Any] = {}
    for module in modules.values():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
            elif name not in _OWN and not _copies(value, shared):
                memo[id(value)] = value
    return memo


def _copies(value: Any, shared: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(shared))
    except Exception:  # whatever its own code raises
        return False
    return True
