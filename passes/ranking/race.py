"""Find the best of many without running all of them to the end.

Best-first search: the costs of images add up and none is negative, so what a runner has added up so far bounds its
final cost from below. The runner with the least bound always goes on; the first to finish therefore has the least
final cost of all, the next to finish the second least, and so on. No rule that must be certain runs less.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Runner(Protocol):
    """Something that comes closer to its final cost with every step."""

    @property
    def index(self) -> int:
        """Decides between equal costs: the least wins."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the cost is final."""
        ...

    @property
    def bound(self) -> float:
        """The final cost if complete, otherwise a lower bound of it."""
        ...

    def advance(self) -> None:
        """Take one step."""


R = TypeVar("R", bound=Runner)


def finishing_order(runners: Iterable[R]) -> Iterator[R]:
    """Yield the runners from the least final cost to the largest; each is run only as far as its turn needs."""
    heap = [(runner.bound, runner.index, runner) for runner in runners]
    heapq.heapify(heap)
    while heap:
        _, index, runner = heapq.heappop(heap)
        if runner.complete:
            yield runner
        else:
            runner.advance()
            heapq.heappush(heap, (runner.bound, index, runner))
