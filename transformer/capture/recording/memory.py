"""Tracking which recorded values share memory, so that in-place operations are never recorded wrongly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Write:
    """An in-place operation."""

    scope: tuple[str, ...]
    """Keys of the module calls it happened in, outermost first."""
    name: str
    source: str
    """``file:line`` of the model's code."""

    def __str__(self) -> str:
        return f"{self.name} at {self.source or 'an unknown line'}"


class Memory:
    """Knows which values were overwritten through another view and are read later.

    An in-place operation is recorded as a function that makes a new value, and its tensor stands for the new value
    from then on. Any other value in the same memory (its base, a view made before) is stale: if the model reads it
    later, the recording would be wrong, and the module that wrote must be kept whole instead.
    """

    def __init__(self) -> None:
        self._storage: dict[int, int] = {}
        self._sharing: defaultdict[int, set[int]] = defaultdict(set)
        self._stale: dict[int, Write] = {}
        self.culprits: list[Write] = []
        """The writes that a later read would get wrong; their scopes hold the reads too."""

    def made(self, value: int, tensor: Tensor) -> None:
        """Note the memory of a new value."""
        storage = _storage(tensor)
        if storage is not None:
            self._storage[value] = storage
            self._sharing[storage].add(value)

    def overwritten(self, tensor: Tensor, write: Write) -> bool:
        """Mark every known value in the memory of ``tensor`` stale; the caller binds the new value afterwards.

        Returns whether there was more than one.
        """
        storage = _storage(tensor)
        values = self._sharing.pop(storage, set()) if storage is not None else set()
        for value in values:
            self._stale[value] = write
        return len(values) > 1

    def read(self, value: int, scope: Sequence[str]) -> None:
        """Note a read; one of a stale value accuses the writer, or the reader's and writer's common module."""
        write = self._stale.get(value)
        if write is not None:
            self.culprits.append(replace(write, scope=_common(write.scope, tuple(scope))))

    def unclear(self, write: Write) -> None:
        """Accuse a write that has no functional form."""
        self.culprits.append(write)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    shared = []
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        shared.append(a)
    return tuple(shared)


def _storage(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None
