"""A bound on what making a network may cost, where a file chose the network and its sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import LoadError

_SPARE_BYTES = 256 * 2**20
_SPARE_CALLS = 20_000
_CALLS_EACH = 200
"""Calls of torch that a constructor makes for one tensor of the weights; the most that was seen is 30."""


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, inside the ``with``, tensors of more bytes than a file's weights can need, before their memory is taken.

    Each operation runs on the meta device first, which tells its result's size and takes no memory.
    """

    def __init__(self, what: str, tensors: Sequence[Tensor]) -> None:
        """``what`` is made for ``tensors``, the weights of the file that names it."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.what = what
        self.bytes = _SPARE_BYTES + 8 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.calls = _SPARE_CALLS + _CALLS_EACH * len(tensors)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation, unless it goes beyond the bounds."""
        given = dict(kwargs or {})
        self.calls -= 1
        if not func._schema.is_mutable:
            self.bytes -= _size(func, args, given)
        if self.calls < 0 or self.bytes < 0:
            raise LoadError(f"{self.what} is far larger than the weights that are with it; the file is not read")
        return func(*args, **given)


def _size(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return the bytes of an operation's result; 0 where the meta device cannot tell."""
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs["device"] = torch.device("meta")
    try:
        made = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):  # the operation itself then says what is wrong
        return 0
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
