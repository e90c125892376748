"""A place in the network that one operation may replace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from .region import Region


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
