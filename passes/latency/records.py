"""Records of latencies and of what they depend on."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record, Scope
from ...transformer.contracts.timing import Timing

BETWEEN = "between"
"""In the provenance of a row that was not timed: which operations' latencies it lies between."""


class LatencyRecord(Record):
    """Time of one operation at given shapes on a target: a row of the lookup table.

    Key: ``target fingerprint/operation/input->output``.
    """

    kind: ClassVar[str] = "latency"
    scope: ClassVar[Scope] = Scope.RUN
    operation: str
    input: str
    output: str
    target: str
    timing: Timing
    provenance: dict[str, str]

    @property
    def between(self) -> bool:
        """Whether it is an estimate between rows of other widths that were timed (``widths.py``)."""
        return BETWEEN in self.provenance


class NetworkLatencyRecord(Record):
    """Time of a whole network. Key: hash of its selection, ``teacher`` for the teacher itself."""

    kind: ClassVar[str] = "network_latency"
    scope: ClassVar[Scope] = Scope.TARGET
    selection: dict[str, str]
    timing: Timing
    teacher: Timing
    """The teacher, timed interleaved with it."""
    predicted_ms: float | None = None
    provenance: dict[str, str]


class CalibrationRecord(Record):
    """What a few measured whole networks say of the lookup table. Key: ``calibration``."""

    kind: ClassVar[str] = "calibration"
    scope: ClassVar[Scope] = Scope.TARGET
    added: dict[str, float]
    """Key of the row of an own block that cannot be taken out -> what it costs in the network beyond the row (ms)."""
    networks: tuple[str, ...]
    """Keys of the measured networks."""


class LatencyModelRecord(Record):
    """How the sum of the table predicts the whole network: ``fixed_ms + slope * sum``. Key: ``model``."""

    kind: ClassVar[str] = "latency_model"
    scope: ClassVar[Scope] = Scope.TARGET | Scope.STUDENT
    fixed_ms: float
    slope: float
    teacher_ms: float
    networks: int
    """How many measured whole networks it was fitted on."""


class SlowerRecord(Record):
    """An operation that is slower on the target than its block's own, or no faster than a wider one of its kind, and is
    not selected. Key: ``block/operation``.

    It says nothing of the candidate's training, which serves other targets.
    """

    kind: ClassVar[str] = "slower"
    scope: ClassVar[Scope] = Scope.TARGET
    block: str
    operation: str
    reason: str
