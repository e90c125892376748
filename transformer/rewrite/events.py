"""What the rewriter does, told to whoever listens; tests count these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockReplaced:
    """A block got another module."""

    block: str
    before: str
    after: str
    """Class names."""


@dataclass(frozen=True)
class EagerKept:
    """The eager network was kept: ``count`` blocks were swapped in its module tree."""

    count: int


@dataclass(frozen=True)
class EagerLost:
    """The eager network was given up, because ``block`` is no plain submodule of it."""

    block: str


Event = BlockReplaced | EagerKept | EagerLost
_listeners: ContextVar[tuple[list[Event], ...]] = ContextVar("_listeners", default=())


@contextmanager
def rewrite_events() -> Iterator[list[Event]]:
    """Collect the events of every rewrite inside the ``with``, in order."""
    events: list[Event] = []
    token = _listeners.set((*_listeners.get(), events))
    try:
        yield events
    finally:
        _listeners.reset(token)


def emit(event: Event) -> None:
    """Tell all listeners."""
    for events in _listeners.get():
        events.append(event)
