"""When operations leave a layer, and when a skip comes in (PruNet sections 3.2.2 and 3.2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SKIP = -1
"""Index of the skip among a layer's choices."""
END = 0.55
"""Probability that the last one has to have: above one half, so that one is left."""
DEADLINE = 0.85
"""Share of the search by which layers are down to two: the contest with the skip takes time."""


Pruning = Literal["rising", "constant", "none"]
"""How the threshold goes: up to ``END``, as the paper's; or not at all, or there is none, to compare with."""


def threshold(most: int, progress: float, pruning: Pruning = "rising") -> float:
    """Return the probability under which an operation leaves, at ``progress`` (0 to 1); layers begin with ``most``."""
    start = 0.6 / max(most, 2)  # an operation alone meets the skip
    if pruning == "rising":
        return start + (END - start) * progress
    return start if pruning == "constant" else 0.0


@dataclass(frozen=True)
class Layer:
    """What is left in a layer."""

    alive: tuple[int, ...]
    """Indices of its choices, ``SKIP`` among them in the contest."""
    skips: bool
    """Whether a skip may come in, which it does once."""

    @property
    def contest(self) -> bool:
        """Whether an operation and the skip are left to choose from."""
        return SKIP in self.alive


def pruned(layer: Layer, logits: Sequence[float], progress: float, most: int, pruning: Pruning = "rising") -> Layer:
    """Return what is left of the layer after a look at ``progress``; ``logits`` are in the order of ``layer.alive``.

    The least probable goes first, one at a time, the others' probabilities rise. Where the second last goes, or there
    was but one from the beginning, a skip takes its place, if one may come in.
    """
    alive, weights = list(layer.alive), dict(zip(layer.alive, logits, strict=True))
    if pruning == "none":
        return layer
    late = progress >= DEADLINE and layer.skips
    while len(alive) > 1:
        least = min(alive, key=lambda choice: weights[choice])
        probability = _probability(weights[least], [weights[choice] for choice in alive])
        if not late and probability >= threshold(most, progress, pruning):
            break
        alive.remove(least)
    if len(alive) == 1 and layer.skips:
        return Layer((*alive, SKIP), skips=False)
    return Layer(tuple(alive), layer.skips)


def _probability(logit: float, logits: Sequence[float]) -> float:
    highest = max(logits)
    return math.exp(logit - highest) / math.fsum(math.exp(other - highest) for other in logits)
