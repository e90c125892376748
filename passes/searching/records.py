"""Records of what searches found."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record


class LimitRecord(Record):
    """The limit that every search within a budget is given. Key: ``target fingerprint/budget``."""

    kind: ClassVar[str] = "limit"
    ms: float
    """Of the lookup table's sum, corrected by measured networks."""
    source: str = ""
    """Digest of the table that it was settled on; empty in runs of earlier versions."""


class BaselineRecord(Record):
    """What another search found within the same budget. Key: ``method/budget``."""

    kind: ClassVar[str] = "baseline"
    method: str
    budget: str
    choice: dict[str, str]
    objective: float
    cost: dict[str, float]
    """Summed over the blocks, by name."""
    limits: dict[str, float]
    """Of the sums."""
    loss: float
    """Cross-entropy on held-out training images, before fine-tuning."""
    accuracy: float
    samples: int
    networks: int
    """How many whole networks the search ran."""
    losses: tuple[float, ...] = ()
    """Of each network over the images that it was run on: at least one batch, all for the best."""
    seconds: float
    """CPU time of the search."""


class SearchRecord(Record):
    """The incumbent after one round of a linearised search. Key: ``budget/round``."""

    kind: ClassVar[str] = "search"
    budget: str
    round: int
    """0 is the start, from pretraining's errors."""
    choice: dict[str, str]
    loss: float
    """On the images of the races, with the statistics that the search uses."""
    before: float
    """Loss of the incumbent before the round, on the same images."""
    radius: int
    """Most changes that the next round proposes in one linear step; 0 ends the search."""
    networks: int
    """Whole networks that were run in this round, on one batch at least."""
    recipe: str
    """Fingerprint of the limits, the candidates, the seed and the options."""
    seconds: float
    """CPU time of the round."""


class PrunetRecord(Record):
    """How the student's search went that trains operations together. Key: ``search``."""

    kind: ClassVar[str] = "prunet"
    budget: str
    preferred: dict[str, str]
    """What it ended in, before the limits were held to the last."""
    loss: float
    """Of that network, on images that trained the probabilities."""
    predicted_ms: float
    price: float
    """alpha at the end: given, or found so that the budget is met."""
    left: tuple[tuple[str, str, int], ...]
    """(block, operation or ladder of operations, step) of what left, in order."""
    steps: int
    runs: int
    """Operations that were run on a batch, in all layers."""
    probabilities: dict[str, tuple[float, ...]]
    """``layer: operation`` that a layer ended in -> its probability at each look, evenly over the search."""
    widths: dict[str, tuple[float, ...]]
    """The same of layers that ended in a Prunode -> middle of the two widths in work, as a share of the ladder."""
    seconds: float
    """CPU time."""
    recipe: str
    """Fingerprint of all that decides the result."""


class ColumnRecord(Record):
    """A width that a walk along a ladder came to at the prices of a round. Key: ``budget/round/block/widest``."""

    kind: ClassVar[str] = "column"
    block: str
    operation: str
    price: float
    """Of a millisecond of the table (nats)."""
    error: float
    """MSE over variance, on held-out images."""
    reduced: float
    """Reduced cost (nats): below zero the operation became a candidate; 0 for one that was there already."""
