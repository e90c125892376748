"""The options of the search, which the passes that search so have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ....transformer.contracts.pass_ import Amount, Count, Factor, Positive, Share
from ....transformer.errors import UsageError
from .schedule import Pruning
from .walk import Corner

Paths = Literal["complement", "sampled", "mixture"]
"""What trains the weights: ``complement``, two networks of one operation a layer, the second with the other width of
each Prunode, each on its own loss; ``sampled``, one such network; ``mixture``, the weighted sum of all, as in the
paper, which ends in too wide operations."""


@dataclass(frozen=True)
class Prunet:
    """How operations are trained and chosen together."""

    scratch: ClassVar[bool] = False
    """Whether nothing has been trained before: all weights are, on labels alone."""

    steps: Amount = 0
    """Batches in all; 0 for as many as the data ask for: four passes over them, at least 400 and at most 2000 steps."""
    search_batch_size: Count = 64
    """Images in a batch."""
    weights_rate: Factor = 0.002
    """Learning rate of the weights (RMSprop), which falls to 0 with a cosine."""
    probabilities_rate: Positive = 0.1
    """Learning rate of the probabilities and of the Prunodes (Adam), which falls to 0 with a cosine."""
    warm_up: Share = 0.2
    """Share of the steps that train weights only, of operations drawn evenly."""
    every: Count = 5
    """Of so many steps after the warm-up one trains the probabilities, on images that no weight is trained on."""
    alpha: Factor = 0.0
    """Price of latency: the loss has alpha * (ln microseconds)^0.6 in it; 0 for the price that meets the budget."""
    skip_factor: Positive = 1.1
    """What a skip's output is multiplied by while it and one operation are left in a layer (phi)."""
    block_factor: Positive = 0.55
    """What the operation's output is multiplied by meanwhile (lambda): below 1 it has to show that it is needed."""
    temperature: Positive = 1.0
    """Of the Gumbel-softmax."""
    paths: Paths = "complement"
    """What trains the weights: ``complement``, ``sampled`` or, as in the paper, ``mixture``."""
    corner: Corner = "reset"
    """What a Prunode does at its lowest width: ``reset`` its weight, or keep it as in the ``paper``."""
    features: Factor = 1.0
    """How much the error of each layer's output against the teacher's block counts in training the weights."""
    most: Count = 4
    """Operations, or ladders of widths, that a layer begins with beside the block's own, the most promising ones."""
    pruning: Pruning = "rising"
    """How the threshold goes under which operations leave: ``rising``, ``constant``, or ``none``."""
    draw: Amount = 0
    """Another number draws other images and samples."""

    @property
    def deciding(self) -> dict[str, Any]:
        """The options by name, for fingerprints."""
        return {field.name: getattr(self, field.name) for field in fields(Prunet)}

    def checked(self) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: names the options.
        """
        if self.weights_rate == 0 and (self.skip_factor, self.block_factor) != (1.0, 1.0):
            raise UsageError(
                f"options skip_factor {self.skip_factor:g} and block_factor {self.block_factor:g} need weights that "
                "train: with frozen ones they keep fewer operations in place of more; set weights_rate above 0, or "
                "both factors to 1"
            )
        if self.every < 2:
            raise UsageError("option every is 1, expected 2 or more: some steps have to train the weights")

    def length(self, images: int) -> int:
        """Return the number of steps with so many images to train on."""
        return self.steps or min(2000, max(400, 4 * images // self.search_batch_size))
