"""Proposals near the incumbent, by the integer program on the linear model."""

from __future__ import annotations

from collections.abc import Sequence

from ...transformer.errors import InfeasibleError
from ..selecting.table import Floats
from .contest import Contest, Ints
from .effects import Effects

_SHORT = 3
"""Steps on the joint model change at most this many blocks: farther away each exchange changes what others do."""
_STEPS = 20
MOST = 12
"""Proposals of a round at most: two for each of six radii."""
_GAIN = 1e-6
"""Less is rounding."""


def proposals(contest: Contest, effects: Effects, radius: int) -> list[Ints]:
    """Return different choices within the limits that the model expects to be better, at most ``MOST``.

    1. For several radii the best choice if exchanges did not act on each other: exact, and right near the optimum.
    2. From these, and from the incumbent, the joint model is descended in short steps: outputs add up before the loss
       is taken, which makes the long leaps of the first rounds.
    """
    start, linear = effects.start, effects.exchanges(effects.start)
    found: dict[tuple[int, ...], Ints] = {}
    for size in sorted({1, 2, _SHORT, max(1, radius // 2), radius, 2 * radius}):
        leap = _best(contest, linear, start, size)
        if leap is None:
            continue
        descended = descend(
            contest, effects, start if size <= _SHORT else leap, min(size, 2) if size > _SHORT else size
        )
        for choice in (leap, descended):
            found.setdefault(tuple(choice.tolist()), choice)
    found.pop(tuple(start.tolist()), None)
    return list(found.values())


def descend(contest: Contest, effects: Effects, start: Ints, step: int) -> Ints:
    """Return where the joint model is led to from ``start`` by linear steps of about ``step`` changes."""
    choice, value = start, effects.of(start)
    for _ in range(_STEPS):
        new = _best(contest, effects.exchanges(choice), choice, step)
        if new is None or (new == choice).all():
            break
        lower = effects.of(new)
        if lower < value - _GAIN:
            choice, value, step = new, lower, min(step + 1, len(start))
        elif step == 1:
            break
        else:
            step //= 2
    return choice


def _best(contest: Contest, linear: Sequence[Floats], near: Ints, radius: int) -> Ints | None:
    """Return the best choice in at most ``radius`` changes; None where that does not reach the limits."""
    try:
        return contest.best(linear, (near, radius))
    except InfeasibleError:
        return None
