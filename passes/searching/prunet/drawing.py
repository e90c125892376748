"""The way of a search: probabilities of what each layer ends in, and the widths that Prunodes walk over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....transformer.contracts.store import Store
from ...reporting.charts import probabilities, widths
from ...reporting.figures.keep import keep
from ..records import PrunetRecord
from .layer import Place
from .outcome import Outcome
from .schedule import SKIP

Ways = dict[str, tuple[float, ...]]


def draw(store: Store, record: PrunetRecord) -> None:
    """Write the drawings of a search into its run."""
    drawings = {
        "prunet-probabilities": ("Probabilities over the search", probabilities(record.probabilities)),
        "prunet-widths": ("Widths over the search", widths(record.widths)),
    }
    for name, (title, svg) in drawings.items():
        if svg:
            keep(store, name, title, svg)


def ways(outcome: Outcome) -> tuple[Ways, Ways]:
    """Return the probability of what each layer ended in at every look, and of its Prunode the middle of its widths."""
    search, shares, middles = outcome.search, Ways(), Ways()
    for place, rows in _rows(search.supernet.places, search.state.way):
        choice = place.best()[0]
        name = f"{place.name}: {outcome.preferred[place.name]}"
        shares[name] = tuple(row[len(place.ladders) if choice == SKIP else choice] for row in rows)
        if choice != SKIP and place.walks[choice].rungs > 1:
            first = len(place.ladders) + 1 + 2 * choice
            rungs = place.walks[choice].rungs
            middles[name] = tuple((row[first] + row[first + 1]) / 2 / rungs for row in rows)
    return shares, middles


def _rows(places: Sequence[Place], way: Sequence[Sequence[float]]) -> Iterator[tuple[Place, list[list[float]]]]:
    """Yield each layer with its part of what was told at each look (``told``)."""
    start = 0
    for place in places:
        end = start + len(place.ladders) + 1 + 2 * len(place.ladders)
        yield place, [list(row[start:end]) for row in way]
        start = end
