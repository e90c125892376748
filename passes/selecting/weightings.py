"""Losses for the integer program from pretraining's own errors, where nothing is scored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...transformer.ir.graph import Graph

Floats = NDArray[np.float64]

FALLS = (1.0, 0.7, 0.5)
"""Weights of a stage's errors in those of the stage before: an early error is carried on by all that follows it."""
FALL = 0.7
"""The one of ``FALLS`` that is taken where whole networks are not looked at."""
POWERS = (1.0, 0.75)
"""Of the error; smaller ones spread errors over the blocks less evenly."""


def weightings(errors: Sequence[Floats], stage: Sequence[int]) -> list[tuple[Floats, ...]]:
    """Return losses, one array a block, from the errors (NMSE): each fall of weights with each power."""
    return [
        tuple(fall**s * row**power for s, row in zip(stage, errors, strict=True)) for fall in FALLS for power in POWERS
    ]


def weighted(errors: Sequence[Floats], stage: Sequence[int]) -> tuple[Floats, ...]:
    """Return losses, one array a block, from the errors (NMSE), early stages weighing more."""
    return tuple(FALL**s * row for s, row in zip(stage, errors, strict=True))


def stages(graph: Graph) -> list[int]:
    """Return the stage of each replaceable block: a new one begins where the block's output changes in shape."""
    outputs = [block.output for block in graph.replaceable]
    found = [0]
    for before, after in pairwise(outputs):
        found.append(found[-1] + (before != after))
    return found
