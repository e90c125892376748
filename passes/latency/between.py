"""Rows of widths that are not timed: estimates between those that are (``widths.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ...op_library.elastic import width_of
from ...transformer.contracts.context import Context
from ...transformer.contracts.timing import Timing
from .plan import SitePlan, ladders
from .records import BETWEEN, LatencyRecord
from .widths import filled


def fill(context: Context, sites: Iterable[SitePlan], provenance: Mapping[str, str]) -> int:
    """Write the rows that were not timed as estimates between those that were; return how many these are."""
    store, count = context.store, 0
    records = store.all(LatencyRecord)
    for site in sites:
        for ladder in ladders(site.listed):
            known = [_measured(records.get(row.key)) for row in ladder]
            names = [row.operation for row in ladder]
            for place, ms in enumerate(filled([width_of(row.spec) for row in ladder], known)):
                if known[place] is None:
                    told = {BETWEEN: _between(names, known, place)}
                    timing = Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms, samples=(ms,), estimated=True)
                    store.put(ladder[place].key, ladder[place].record(context.target, timing, {**provenance, **told}))
                    count += 1
    return count


def _measured(record: LatencyRecord | None) -> float | None:
    return None if record is None or record.between else record.timing.ms


def _between(names: Sequence[str], known: Sequence[float | None], place: int) -> str:
    places = [other for other, ms in enumerate(known) if ms is not None]
    low, high = next((a, b) for a, b in pairwise(places) if a < place < b)
    return f"{names[low]} and {names[high]}"
