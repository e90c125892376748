"""How good each student of a shared network is while it is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.data import Subset

from ...transformer.contracts.context import Context
from ...transformer.contracts.data import Sample
from ...transformer.contracts.task import Classification
from ...transformer.data.images import batches, size
from ...transformer.data.splits import split, take
from ...transformer.ir.graph import Graph
from ..finetuning.examine import JUDGES, Examiner, Found, Parts, spread
from ..finetuning.parallel import Parallel
from ..ranking.recalibrate import BATCHES
from .network import SharedNetwork, recalibrate

_BATCH = 256
_LEAST = 250
"""Images at least that each of many students is examined on."""
_FEW = 2
"""Batches that norms are estimated on to see how a student does, which is done again and again."""
_LITTLE = 1.05
"""Times the share of the most frequent class: no better than to answer nothing else."""
_KNOWN = 0.25
"""Of the way from chance to 100 %: what a state has to know to be worth going back to."""


def calibration_images(context: Context, count: int = BATCHES) -> Iterator[Tensor]:
    """Yield ``count`` batches of plain training images to estimate batch norms on, the same for every student."""
    part = take(split(context.dataset, context.seed).fit, _BATCH * count)
    return (images for images, _ in batches(part, _BATCH, device=context.device))


class StudentsExaminer(Examiner):
    """Takes each student out of the shared network, with batch norms of its own, and compares states by their mean."""

    def __init__(
        self,
        context: Context,
        shared: SharedNetwork,
        students: Mapping[str, Mapping[str, str]],
        parts: Parts,
        **how: Any,
    ) -> None:
        """Take the students by name, block -> operation."""
        most = max(_LEAST, 2 * JUDGES // len(students))  # of many, each on fewer images: all together cost the same
        kept = cast("Subset[Sample]", parts.judges)
        judges = Subset(kept.dataset, [kept.indices[place] for place in spread(size(kept), most)])
        super().__init__(context, judges, **how)
        self.students = tuple(students)
        self._whole, self._shared, self._choices = context, shared, students
        self._copies: dict[str, Graph] = {}
        self._found: dict[str, Found] = {}
        self._chance = _chance(context, parts)

    def examine(self, network: nn.Module, parallel: Parallel) -> Found:
        """Return the mean of what the students are worth; ``network`` is the shared one."""
        for name, choice in self._choices.items():
            student = self._student(name, choice)
            self._found[name] = super().examine(student.network, parallel)
        found = list(self._found.values())
        return Found(*(sum(values) / len(found) for values in zip(*map(_values, found), strict=True)))

    def accuracies(self) -> dict[str, float]:
        """Return the accuracy of each student when it was examined last."""
        return {name: found.accuracy for name, found in self._found.items()}

    def trouble(self, best: Found) -> str:
        """Return in words that all students answer as if they had seen nothing, where the best state does not."""
        highest = max(found.accuracy for found in self._found.values())
        if self._chance is None or highest > _LITTLE * self._chance:
            return ""
        if best.accuracy <= self._chance + _KNOWN * (100 - self._chance):
            return ""
        return (
            f"no student is better than chance any more ({highest:.1f} %), though the loss is a number; "
            "give a lower rate (shrink.learning_rate)"
        )

    def _student(self, name: str, choice: Mapping[str, str]) -> Graph:
        if name not in self._copies:
            self._copies[name] = self._shared.student(choice)
            self._copies[name].network.to(self._whole.device).eval()
        student = self._copies[name]
        self._shared.fill(student, choice)
        recalibrate(student, calibration_images(self._whole, _FEW))
        return student


def _values(found: Found) -> tuple[float, ...]:
    return found.accuracy, found.loss, found.divergence, found.right


def _chance(context: Context, parts: Parts) -> float | None:
    """Return the share of the most frequent class in percent; None for other tasks."""
    if not isinstance(context.dataset.task, Classification):
        return None
    labels = Counter(int(label) for _, targets in batches(parts.judges, _BATCH) for label in targets)
    return 100 * max(labels.values()) / size(parts.judges)
