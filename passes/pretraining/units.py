"""How the work is cut into units. The results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .unit import Pair, Unit

UNITS_A_SLOT = 3
"""Units for every slot of an executor that has several, so that none waits long for the last."""


@dataclass(frozen=True)
class Cut:
    """Largest sizes of a unit."""

    in_flight: int
    """Operations, on all blocks: they share the teacher's forward pass."""
    slots: int = 1
    """Units that run at the same time."""
    bound: Callable[[Sequence[Pair]], Iterable[list[Pair]]] | None = None
    """Cuts a group further, so that the memory holds each part."""


def units(begun: Sequence[tuple[Pair, int]], stop: int, cut: Cut) -> Iterator[Unit]:
    """Yield units that take pairs to step ``stop``, each from the step that stands beside it."""
    for step in sorted({behind for _, behind in begun}):
        for group in _groups([pair for pair, behind in begun if behind == step], cut):
            for part in [group] if cut.bound is None else cut.bound(group):
                yield Unit(tuple(part), step, stop)


def _groups(pairs: Sequence[Pair], cut: Cut) -> Iterator[list[Pair]]:
    """Yield the pairs of a few operations at a time."""
    operations = list(dict.fromkeys(spec.name for _, spec in pairs))
    size = max(1, cut.in_flight)
    if cut.slots > 1:
        size = max(1, min(size, len(operations) // (UNITS_A_SLOT * cut.slots)))
    for start in range(0, len(operations), size):
        chosen = set(operations[start : start + size])
        yield [pair for pair in pairs if pair[1].name in chosen]
