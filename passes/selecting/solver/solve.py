"""``hant.solve``: validate, run an engine, check what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from ....transformer.errors import UsageError, nearest
from .check import violations
from .instance import Instance, build
from .pool import pool_selections
from .problem import Selection, SelectionProblem
from .reference import reference_selections

Engine = Callable[[Instance], Iterator[Selection]]

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "default": pool_selections,
        "pulp": partial(reference_selections, solver="highs"),
        "pulp-cbc": partial(reference_selections, solver="cbc"),
    }
)


def solve(problem: SelectionProblem, engine: str = "default") -> list[Selection]:
    """Return up to ``problem.solutions`` diverse selections, each with its proven bound.

    1. The first is the optimum; each later one minimises the loss among those that share at most
       ``problem.overlap`` blocks with every one before it (HANT section 2.2).
    2. Fewer than K come back where fewer exist, never none.
    3. Each is checked in exact arithmetic before it is returned; same input, same output, to the bit.

    Args:
        problem: losses and costs of shape (N, M), limits and the number of selections.
        engine: ``default`` (first optimum exact, later ones near-optimal with a certified gap), ``pulp`` (exact, by
            HiGHS) or ``pulp-cbc`` (exact, by CBC).

    Raises:
        UsageError: the problem is malformed, or no such engine.
        InfeasibleError: no selection holds the limits; tells the least cost that can be reached.
    """
    if engine not in ENGINES:
        raise UsageError(f"no selection engine {engine!r}{nearest(engine, ENGINES)}")
    selections = list(ENGINES[engine](build(problem)))
    wrong = violations(problem, selections)
    if wrong:
        raise RuntimeError(f"engine {engine} broke a constraint, please report it: {wrong[0]}")
    return selections
