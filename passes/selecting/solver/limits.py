"""Do the limits hold, exactly; and if none can hold them, what is the least that can be reached."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ....transformer.errors import InfeasibleError
from .instance import Floats, Instance, Ints


def holds(instance: Instance, entries: Ints) -> bool:
    """Return whether the exact sums of ``entries``, one per block, lie in every limit's range."""
    return all(
        _within(instance.cost[c, entries], float(instance.low[c]), float(instance.high[c]))
        for c in range(len(instance.names))
    )


def _within(values: Floats, low: float, high: float) -> bool:
    total = math.fsum(values)  # correctly rounded, so only equality needs exact arithmetic
    if low < total < high:
        return True
    if total < low or total > high:
        return False
    exact = sum(map(Fraction, values.tolist()), Fraction(0))
    return (math.isinf(low) or exact >= Fraction(low)) and (math.isinf(high) or exact <= Fraction(high))


def least_costs(instance: Instance) -> dict[str, float]:
    """Return the least reachable sum of each limited cost, every other limit aside."""
    return {
        name: math.fsum(np.minimum.reduceat(instance.cost[c], instance.start[:-1]))
        for c, name in enumerate(instance.names)
    }


def alone_infeasible(instance: Instance) -> InfeasibleError | None:
    """Return the error for limits that no selection can hold even alone; None if each can be held alone."""
    least = least_costs(instance)
    for c, name in enumerate(instance.names):
        low, high = float(instance.low[c]), float(instance.high[c])
        floor = np.minimum.reduceat(instance.cost[c], instance.start[:-1])
        if not _within(floor, -math.inf, high):
            return InfeasibleError(
                f"no selection has {name} at most {high:g}; the least that can be reached is {least[name]:.6g}, "
                "raise the limit or allow cheaper operations",
                least,
            )
        ceiling = np.maximum.reduceat(instance.cost[c], instance.start[:-1])
        if not _within(ceiling, low, math.inf):
            return InfeasibleError(
                f"no selection has {name} at least {low:g}; the most that can be reached is {math.fsum(ceiling):.6g}, "
                "lower the range",
                least,
            )
    return None


def jointly_infeasible(instance: Instance, least_with_others: Callable[[int], float | None]) -> InfeasibleError:
    """Return the error for limits that hold alone but not together.

    ``least_with_others(c)`` gives the least cost c that can be reached under the other limits, None if there is none.
    """
    least = least_costs(instance)
    reached = []
    for c, name in enumerate(instance.names):
        value = least_with_others(c) if math.isfinite(instance.high[c]) else None
        if value is not None:
            least[name] = value
            reached.append(f"{name} can reach {value:.6g} (limit {float(instance.high[c]):g}) under the others")
    told = "; ".join(reached) if reached else "no single limit is the cause"
    return InfeasibleError(f"each limit can be held alone but not all together; {told}; raise one of them", least)
