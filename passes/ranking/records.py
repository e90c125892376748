"""Records of whole networks on held-out images, and of the winner."""

from __future__ import annotations

from typing import ClassVar, Self

from ...transformer.contracts.record import Record, Scope
from ..latency.records import NetworkLatencyRecord
from ..selecting.records import SelectionRecord


class EvaluationRecord(Record):
    """A whole network of candidates run on held-out training images. Key: ``recipe/hash of the choice``.

    Ranking, baselines and studies of the proxy share these: the same network is never evaluated twice.
    """

    kind: ClassVar[str] = "evaluation"
    scope: ClassVar[Scope] = Scope.RUN
    choice: dict[str, str]
    samples: int
    """Images so far, in an order that is the same for every network."""
    complete: bool
    """False while the evaluation is stopped early or unfinished."""
    sums: dict[str, float]
    """Of each measure over the images so far."""
    squares: dict[str, float]
    """Of each measure's square."""
    seconds: float = 0.0
    """CPU time that it took."""


class RankRecord(Record):
    """A selection evaluated as a whole before fine-tuning. Key: index of the selection."""

    kind: ClassVar[str] = "rank"
    index: int
    loss: float
    """Cross-entropy (nats)."""
    accuracy: float
    """Top-1 on held-out training images, percent."""
    samples: int
    complete: bool = True
    """False where the selection could no longer win and was not run on all images."""
    kl: float | None = None
    """Divergence of its predictions from the teacher's (nats)."""
    feature_mse: float | None = None
    """Mean squared error of what leaves the last replaceable block, against the teacher's."""
    finetuned_accuracy: float | None = None
    """Of a finalist after its short fine-tuning, on held-out training images, percent."""


class FinalistRecord(Record):
    """A selection after a short alignment. Key: hash of the choice, of its candidates and of the recipe."""

    kind: ClassVar[str] = "finalist"
    scope: ClassVar[Scope] = Scope.RUN
    choice: dict[str, str]
    steps: int
    loss: float
    """On held-out training images."""
    accuracy: float
    """Top-1 on held-out training images, percent."""


class WinnerRecord(Record):
    """The selection that is fine-tuned. Key: ``winner``."""

    kind: ClassVar[str] = "winner"
    index: int
    choice: dict[str, str]
    objective: float
    bound: float
    predicted_ms: float
    measured_ms: float
    teacher_ms: float
    estimated: bool = False
    """True if ``measured_ms`` was not measured on the target."""

    @classmethod
    def of(cls, selection: SelectionRecord, measured: NetworkLatencyRecord) -> Self:
        """Return the record of a selection whose network was measured."""
        return cls(
            index=selection.index,
            choice=selection.choice,
            objective=selection.objective,
            bound=selection.bound,
            predicted_ms=selection.predicted_ms,
            measured_ms=measured.timing.ms,
            teacher_ms=measured.teacher.ms,
            estimated=measured.timing.estimated,
        )
