"""Which widths of an operation have to be timed, and what the others take.

Latency rises with the width, on many devices in steps: of the widths of one step only the widest is worth having. So
the ends of a ladder are timed, then the narrowest widths, which show whether it rises in steps or on a line, and then
middles. Between two widths that take as long there is nothing to know; on a line few middles tell all, and in steps
every edge is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

AS_FAST = 1.02
"""A width is left out where a larger one takes at most this much of its time."""
_ALIKE = 1.04
"""Where the upper end of an interval takes at most this much of the lower one's time nothing is timed in between."""
_STRAIGHT = 0.03
"""Share of the lower end's time by which what is on a line may miss it."""
_NARROWEST = 4
"""Steps from width to width at the lower end that have to lie on a line: stairs that hide between middles are large
against the time of the narrowest widths."""


def missing(widths: Sequence[float], known: Sequence[float | None]) -> list[int]:
    """Return the places of a ladder that have to be timed next; none if it is known well enough.

    ``widths`` rise, ``known`` are their latencies (ms), None where there is none yet.
    """
    last, ms = len(known) - 1, _least(known)
    ends = [place for place in dict.fromkeys((0, last)) if ms[place] is None]
    if ends or _between_alike(ms, 0, last):
        return ends
    start = min(_NARROWEST, last)
    narrowest = [place for place in range(start + 1) if ms[place] is None]
    if narrowest:
        return narrowest
    lines = not _between_alike(ms, 0, start) and all(_on_line(widths, ms, place, 0, start) for place in range(start))
    return list(_middles(widths, ms, start, last, lines, straight=lines))


def _middles(
    widths: Sequence[float], ms: Sequence[float | None], low: int, high: int, lines: bool, straight: bool
) -> Iterator[int]:
    """Yield the middles that are wanted from ``low`` to ``high``.

    ``lines`` says whether what is on a line is known, ``straight`` whether what the interval is a half of is on one.
    """
    if high - low < 2 or _between_alike(ms, low, high):
        return
    middle = (low + high) // 2
    if ms[middle] is None:
        yield middle
        return
    near = lines and _on_line(widths, ms, middle, low, high)
    if not (near and straight):
        yield from _middles(widths, ms, low, middle, lines, near)
        yield from _middles(widths, ms, middle, high, lines, near)


def _between_alike(ms: Sequence[float | None], low: int, high: int) -> bool:
    """Return whether the ends of an interval take as long, all but a few percent."""
    return (ms[high] or 0.0) <= _ALIKE * (ms[low] or 0.0)


def _on_line(widths: Sequence[float], ms: Sequence[float | None], place: int, low: int, high: int) -> bool:
    first, last, own = ms[low] or 0.0, ms[high] or 0.0, ms[place] or 0.0
    line = first + (last - first) * (widths[place] - widths[low]) / (widths[high] - widths[low])
    return abs(own - line) <= _STRAIGHT * abs(first)


def filled(widths: Sequence[float], known: Sequence[float | None]) -> list[float]:
    """Return the latency (ms) of every width of a ladder: those that are ``known``, and the others on lines between."""
    least = _least(known)
    places = [place for place, ms in enumerate(known) if ms is not None]
    lines = np.interp(widths, [widths[place] for place in places], [least[place] or 0.0 for place in places])
    return [float(line) if ms is None else ms for ms, line in zip(known, lines, strict=True)]


def _least(known: Sequence[float | None]) -> list[float | None]:
    """Return for each known width what it or a larger one takes, whichever is less: none has to take longer."""
    falling = accumulate((ms if ms is not None else np.inf for ms in reversed(known)), min)
    return [None if ms is None else float(least) for ms, least in zip(known, reversed(list(falling)), strict=True)]


def non_dominated(names: Sequence[str], ms: Sequence[float]) -> tuple[str, ...]:
    """Return the widths that are worth having, of ``names`` from narrow to wide that take ``ms``."""
    return tuple(
        name
        for place, (name, own) in enumerate(zip(names, ms, strict=True))
        if all(other > own * AS_FAST for other in ms[place + 1 :])
    )
