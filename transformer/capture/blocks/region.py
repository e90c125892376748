"""Single-entry single-exit regions of module calls, and the sites: regions that one operation may replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from .flow import Flow

_SHARE_KEPT = 0.75
"""A region may be narrower than its module if it keeps this share of the module's work."""
_SHARE_ADDED = 0.5
"""A region may take in a side path that adds at most this share."""
_MOST_ENTRIES = 4
_LONGEST_SIDE_PATH = 60


@dataclass(frozen=True)
class Region:
    """Data steps with one value in and one value out."""

    entry: int
    exit: int
    steps: tuple[int, ...]
    full: bool
    """Whether these are exactly the steps of one module call."""
    sides: tuple[int, ...] = ()
    """Values that it reads beside the entry; what replaces it does without them."""


@dataclass(frozen=True)
class NoRegion:
    """Why a module call is no region."""

    reason: str


def keeps_shape(flow: Flow, region: Region) -> bool:
    """Return whether what leaves a region has the shape of what enters it."""
    return flow.steps[region.entry].shape == flow.steps[region.exit].shape


def region_of(flow: Flow, steps: Sequence[int]) -> Region | NoRegion:
    """Find the region of a module call from its data steps.

    1. One value in, one out: the call as it is.
    2. Several in, one out: take in the side path from the nearest value that all entries come from, if nothing on it
       is used elsewhere.
    3. Otherwise: from its first cut, or its only entry, to its last cut, if most of the work remains.
    """
    work = flow.weight_macs(steps)
    if not work:
        return NoRegion("it multiplies no weights")
    entries, exits = flow.entries(steps), flow.exits(steps)
    single_in = len(entries) == 1 and flow.steps[entries[0]].is_tensor
    if single_in and len(exits) == 1 and flow.steps[exits[0]].is_tensor:
        return Region(entries[0], exits[0], tuple(steps), full=True)
    if 2 <= len(entries) <= _MOST_ENTRIES and len(exits) == 1 and flow.steps[exits[0]].is_tensor:
        widened = _widened(flow, steps, entries, exits[0], work)
        if widened is not None:
            return widened
    return _narrowed(flow, steps, entries, exits, work)


def _narrowed(flow: Flow, steps: Sequence[int], entries: list[int], exits: list[int], work: int) -> Region | NoRegion:
    cuts = flow.cuts(steps, entries)
    if cuts:
        first = entries[0] if len(entries) == 1 and flow.steps[entries[0]].is_tensor else cuts[0]
        inner = tuple(i for i in steps if i <= cuts[-1] and (i > first or first not in steps))
        if inner and flow.weight_macs(inner) >= _SHARE_KEPT * work:
            return Region(first, cuts[-1], inner, full=False)
    names = ", ".join(flow.steps[i].name for i in (entries if len(entries) > 1 else exits)[:4])
    if len(entries) > 1:
        return NoRegion(f"it reads {len(entries)} values from outside ({names})")
    return NoRegion(f"{len(exits)} of its values are used outside ({names})")


def _widened(flow: Flow, steps: Sequence[int], entries: list[int], exit_: int, work: int) -> Region | None:
    low = min(entries)
    candidates = {low, *flow.sources[low], *(s for e in entries for s in flow.sources[e])}
    for start in sorted(candidates, reverse=True)[:8]:
        above_all = all(e == start or flow.follows(e, start) for e in entries)
        if not above_all or not flow.steps[start].is_tensor:
            continue
        side = [
            i
            for i in range(start + 1, max(entries) + 1)
            if flow.is_data[i] and flow.follows(i, start) and any(i == e or flow.follows(e, i) for e in entries)
        ]
        if flow.weight_macs(side) > _SHARE_ADDED * work or len(side) > _LONGEST_SIDE_PATH:
            continue
        widened = sorted({*side, *steps})
        if flow.entries(widened) == [start] and flow.exits(widened) == [exit_]:
            return Region(start, exit_, tuple(widened), full=False)
    return None


class Role(StrEnum):
    """How a site was found."""

    BLOCK = "block"
    """A module that forks or repeats."""
    PLAIN = "plain"
    """A small module in between: a stem, a patch embedding, a down-sampling."""
    RUN = "run"
    """Layers in a row that no module holds together."""


@dataclass(frozen=True)
class Site:
    """A region with its role and the module call it comes from."""

    role: Role
    region: Region
    call: str | None
    """Key of the module call; None for a run of several steps."""
    name: str

    def beside(self, sides: tuple[int, ...]) -> Site:
        """Return the site with further values that its region reads beside its entry."""
        if not sides:
            return self
        return replace(self, region=replace(self.region, sides=(*self.region.sides, *sides)))
