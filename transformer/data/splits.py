"""Which part of the user's data each stage works on."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import cast

import torch
from torch.utils.data import Dataset, Subset

from ..contracts.data import Data, Sample


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the data; which images go where is decided by the seed alone."""

    fit: Dataset[Sample]
    """For pretraining and fine-tuning."""
    held_out: Dataset[Sample]
    """For scoring and ranking."""
    test: Dataset[Sample]


def split(data: Data, seed: int, share: float = 0.15, most: int = 6000) -> Split:
    """Cut ``share`` of the training data, at most ``most`` images (6k: HANT section 2.2), for scoring and ranking."""
    total = len(cast(Sized, data.train))
    count = min(most, max(1, round(total * share)))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
    return Split(
        fit=Subset(data.train, sorted(order[count:])),
        held_out=Subset(data.train, sorted(order[:count])),
        test=data.test,
    )


def changed_part(data: Data, part: Dataset[Sample]) -> Callable[[int], Dataset[Sample]] | None:
    """Return the function of a seed that augments ``part``, a subset of the training data; None where there is none."""
    if data.changed is None:
        return None
    indices = cast("Subset[Sample]", part).indices
    return lambda seed: Subset(data.changed(seed), indices)


def take(dataset: Dataset[Sample], count: int) -> Dataset[Sample]:
    """Return the first ``count`` samples, or all where there are fewer."""
    total = len(cast(Sized, dataset))
    return dataset if count >= total else Subset(dataset, range(count))
