"""The user's data: two data sets of (float tensor (C, H, W), int label), or what a task of the user's takes."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import Dataset, Subset

from .classification import Classification
from .task import Task

if TYPE_CHECKING:
    from .data_content import Content

Sample = tuple[torch.Tensor, int]


@dataclass(frozen=True)
class Data:
    """Training and test data.

    ``test`` is never used before the report. The part used for scoring and ranking is cut from ``train``.
    """

    train: Dataset[Sample]
    test: Dataset[Sample]
    name: str = "data"
    augment: Any = None
    """Optional function on a batch (N, C, H, W) and a ``torch.Generator``, for fine-tuning only.

    It treats each image by itself: of several processes that share a batch, each has its own part of the images.
    """
    changed: Any = None
    """Optional function of a seed that returns ``train`` with every image augmented anew: what an epoch of fine-tuning
    trains on, in place of ``train`` and ``augment``."""
    task: Task = field(default_factory=Classification)
    """What the network is for. With another than classification, labels may be anything."""
    notes: tuple[str, ...] = ()
    """What the user should know of the data, each one line: images that were skipped."""

    @cached_property
    def content(self) -> Content:
        """What tells these data from others of the same name; read once."""
        from .data_content import content_of

        return content_of(self.train, self.test)


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
