"""Race a few networks on held-out images, batch after batch; who is clearly behind drops out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...transformer.contracts.task import Classification
from ..ranking.judge import Judge
from ..selecting.table import SearchTable
from .contest import Ints

_BEHIND = 3.0
"""Standard errors of the paired difference by which a network that drops out is behind."""


class Racing:
    """Losses of networks on the first images of a judge, run only as far as they are needed and never twice."""

    def __init__(self, judge: Judge, table: SearchTable, images: int) -> None:
        """Race on the first ``images`` of the judge, or a few more: its batches are not cut."""
        self._judge, self._table = judge, table
        self._starts: list[int] = []
        while not self._starts or self.images < images:
            self._starts.append(self.images if self._starts else 0)
            if self.images >= judge.total:
                break
        self._losses: dict[tuple[int, ...], list[Tensor]] = {}

    @property
    def images(self) -> int:
        """How many images the race is on."""
        return self._judge.end(self._starts[-1])

    @property
    def networks(self) -> int:
        """How many different networks were run."""
        return len(self._losses)

    def loss(self, choice: Ints) -> float:
        """Return the mean loss on all images."""
        return float(self._run(choice, len(self._starts)).mean())

    def best(self, choices: Sequence[Ints], batches: int | None = None) -> Ints:
        """Return the choice of least loss, the first of equals; on the first ``batches`` only, if given."""
        alive, leader = list(choices), 0
        last = min(batches or len(self._starts), len(self._starts))
        for count in range(1, last + 1):
            losses = [self._run(choice, count) for choice in alive]
            leader = min(range(len(alive)), key=lambda i: float(losses[i].mean()))
            if count < last and isinstance(self._judge.task, Classification):
                alive = [
                    choice
                    for choice, loss in zip(alive, losses, strict=True)
                    if choice is alive[leader] or not _behind(loss - losses[leader])
                ]
        return alive[leader]

    def _run(self, choice: Ints, count: int) -> Tensor:
        """Return the losses of the images of the first ``count`` batches, in double precision."""
        known = self._losses.setdefault(tuple(choice.tolist()), [])
        for start in self._starts[len(known) : count]:
            values = self._judge.run(self._table.choice(choice), {}, start)["loss"]
            known.append(values.double().nan_to_num(nan=math.inf))
        return torch.cat(known[:count])


def _behind(difference: Tensor) -> bool:
    """Return whether the mean of a paired difference, shape (n,), is clearly above 0."""
    mean = float(difference.mean())
    return mean > 0 and not mean <= _BEHIND * float(difference.std()) / math.sqrt(len(difference))
