"""Which options of a place are trained: the own one, the corners of the box, and others drawn by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...transformer.tools.seeds import derived_seed
from .space import Option, Place


def sampled(place: Place, kind: str, count: int, seed: int) -> list[Option]:
    """Return the reference of a type, then up to ``count`` others.

    The reference has the MasterNet's own depth and width. A plane is told best from its corners; what is in between
    tells whether it is one.
    """
    options = place.of_type(kind)
    own = place.own.depth, place.own.item.width
    reference = [option for option in options if (option.depth, option.item.width) == own]
    chance = random.Random(derived_seed(seed, "sample", str(place.index), kind))
    rest = [option for option in options if option not in reference]
    chance.shuffle(rest)
    corners = [option for option in rest if _is_corner(option, options)]
    return [*reference, *[*corners, *(option for option in rest if option not in corners)][:count]]


def _is_corner(option: Option, options: Sequence[Option]) -> bool:
    depths, widths = {other.depth for other in options}, {other.item.width for other in options}
    return option.depth in (min(depths), max(depths)) and option.item.width in (min(widths), max(widths))
