"""The way of a search as drawings: probabilities of what each layer ends in, and the widths that Prunodes walk over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...reporting.figures.charts import Series, scatter
from ...reporting.figures.keep import keep
from .layer import Place
from .outcome import Outcome
from .schedule import SKIP

_MOST = 12
"""Layers that are drawn, evenly over the network: more lines cannot be told apart."""


def draw(outcome: Outcome) -> None:
    """Write the drawings of the search into its run."""
    search = outcome.search
    places, way, store = search.supernet.places, search.state.way, search.context.store
    shown = places[:: max(1, -(-len(places) // _MOST))]
    ends = {place.name: place.best() for place in places}
    titles = "Probability of what each layer ends in", "Widths that the layers' Prunodes have in work"
    lines = [
        _line(outcome, place, _shares(place, rows, ends[place.name][0]))
        for place, rows in _rows(places, way)
        if place in shown
    ]
    if not way:
        return
    keep(store, "prunet-probabilities", titles[0], scatter(lines, ("share of the search", "probability"), titles[0]))
    walks = [
        _line(outcome, place, widths)
        for place, rows in _rows(places, way)
        if place in shown and (widths := _widths(place, rows, ends[place.name][0]))
    ]
    if walks:
        keep(
            store, "prunet-widths", titles[1], scatter(walks, ("share of the search", "share of the ladder"), titles[1])
        )


def _rows(places: Sequence[Place], way: Sequence[Sequence[float]]) -> Iterator[tuple[Place, list[list[float]]]]:
    """Yield each layer with its part of what was told at each look (``told``)."""
    start = 0
    for place in places:
        end = start + len(place.ladders) + 1 + 2 * len(place.ladders)
        yield place, [list(row[start:end]) for row in way]
        start = end


def _line(outcome: Outcome, place: Place, values: Sequence[float]) -> Series:
    points = [((index + 1) / len(values), value) for index, value in enumerate(values)]
    return Series(f"{place.name}: {outcome.preferred[place.name]}", points, joined=True, marked=False)


def _shares(place: Place, rows: Sequence[Sequence[float]], choice: int) -> list[float]:
    return [row[len(place.ladders) if choice == SKIP else choice] for row in rows]


def _widths(place: Place, rows: Sequence[Sequence[float]], choice: int) -> list[float]:
    """Return the middle of the two widths in work as a share of the ladder; nothing where there is but one."""
    if choice == SKIP or place.walks[choice].rungs == 1:
        return []
    first = len(place.ladders) + 1 + 2 * choice
    return [(row[first] + row[first + 1]) / 2 / place.walks[choice].rungs for row in rows]
