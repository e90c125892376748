"""What exchanging operations does to a network's outputs, to first order: a model that is cheap to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..selecting.table import Floats
from .contest import Ints

Outputs = NDArray[np.float32]

BROKEN = 1e9
"""Loss of what puts out no numbers: finite, for the integer program, and worse than anything real."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Outputs of a network on n images, followed in k numbers each, and how every exchange of one operation moves them.

    For classification the numbers are logits, and exchanges add up before the cross-entropy is taken; where there are
    many, some classes share one logit, the logarithm of their summed exponentials. For another task the one number is
    the loss itself, and changes of the loss add up.
    """

    start: Ints
    """The network that is known: one operation's index a block, shape (N,)."""
    base: Outputs
    """Its outputs, shape (n, k)."""
    changes: Sequence[Outputs]
    """For each block what each of its operations adds, shape (M, n, k); 0 for the operation of ``start``."""
    label: Ints | None = None
    """Which of the k logits is that of the image's class, shape (n,); None where the number is the loss."""

    def of(self, choice: Ints) -> float:
        """Return the loss that the model predicts of a network."""
        return float(self._loss(self._outputs(choice)))

    def exchanges(self, choice: Ints) -> tuple[Floats, ...]:
        """Return for each block the loss with each of its operations, the other blocks as in ``choice``, shape (M,)."""
        outputs = self._outputs(choice)
        rows = zip(self.changes, choice.tolist(), strict=True)
        return tuple(self._loss(outputs - change[now] + change) for change, now in rows)

    def _outputs(self, choice: Ints) -> Outputs:
        total = self.base.copy()
        for change, now in zip(self.changes, choice.tolist(), strict=True):
            total += change[now]
        return total

    def _loss(self, outputs: Outputs) -> Floats:
        """Return the mean loss over the images; outputs (..., n, k)."""
        values = outputs.astype(np.float64)
        if self.label is None:
            sums: Floats = np.nan_to_num(values[..., 0].mean(-1), nan=BROKEN, posinf=BROKEN, neginf=BROKEN)
            return sums
        with np.errstate(invalid="ignore"):
            highest = values.max(-1)
            total = np.exp(values - highest[..., None]).sum(-1)
            own = values[..., np.arange(len(self.label)), self.label]
            mean: Floats = (np.log(total) + highest - own).mean(-1)
        finite: Floats = np.nan_to_num(mean, nan=BROKEN, posinf=BROKEN)
        return finite


def joined(parts: Sequence[Effects]) -> Effects:
    """Return the model of all images that ``parts``, of the same network, are about."""
    first = parts[0]
    label = None if first.label is None else np.concatenate([part.label for part in parts if part.label is not None])
    blocks = range(len(first.changes))
    changes = [np.concatenate([part.changes[block] for part in parts], axis=1) for block in blocks]
    return Effects(first.start, np.concatenate([part.base for part in parts]), changes, label)
