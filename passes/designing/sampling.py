"""Which options of a place are trained: the own one, the corners of the box, and others drawn by the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

from ...transformer.tools.seeds import derived_seed
from .space import Option, Place


def sampled(
    place: Place,
    kind: str,
    count: int,
    seed: int,
    *,
    fits: Callable[[Option], bool] | None = None,
    corners: bool = True,
) -> list[Option]:
    """Return the reference of a type, then up to ``count`` others, of those that ``fits`` takes.

    The reference has the MasterNet's own depth and width. A plane is told best from its ``corners``; what is in
    between tells whether it is one. Without them all are drawn alike.
    """
    options = place.of_type(kind)
    own = place.own.depth, place.own.item.width
    reference = [option for option in options if (option.depth, option.item.width) == own]
    chance = random.Random(derived_seed(seed, "sample", str(place.index), kind))
    rest = [option for option in options if option not in reference]
    chance.shuffle(rest)
    first = [option for option in rest if corners and _is_corner(option, options)]
    ordered = [*first, *(option for option in rest if option not in first)]
    return [*reference, *islice((option for option in ordered if fits is None or fits(option)), count)]


def _is_corner(option: Option, options: Sequence[Option]) -> bool:
    depths, widths = {other.depth for other in options}, {other.item.width for other in options}
    return option.depth in (min(depths), max(depths)) and option.item.width in (min(widths), max(widths))
