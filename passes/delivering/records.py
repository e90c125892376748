"""Records of the written files and of what was verified on the target."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record
from ...transformer.contracts.task import TOP1, Metric
from ...transformer.contracts.timing import Timing


class ExportRecord(Record):
    """The files that were written. Key: ``export``."""

    kind: ClassVar[str] = "export"
    files: dict[str, str]
    """What -> path relative to the run."""
    sha256: dict[str, str]
    source: str = ""
    """Of the student's weights and the target that they were made for; empty in runs of earlier versions."""
    left_out: dict[str, str] = {}
    """File that could not be written -> why."""


class VerificationRecord(Record):
    """Teacher and student on the target. Key: ``verification``."""

    kind: ClassVar[str] = "verification"
    teacher: Timing
    student: Timing
    ratio: float
    ratio_low: float
    ratio_high: float
    """Bootstrap interval of the ratio of the interleaved samples."""
    predicted_ratio: float
    within_budget: bool
    plain_ratios: tuple[float, float] | None = None
    """A plain call of teacher and of student, arrays in and arrays out, over the teacher's latency; None on a GPU."""
    max_abs_difference: float
    """Largest difference between the runtime's and PyTorch's outputs of the student."""
    max_scaled_difference: float
    """Largest one over the largest absolute value of its output, where that is above 1: what the target limits."""
    top1_agreement: float | None = 1.0
    """Share of those samples with the same top-1 class in both; None where there are no classes."""
    parity_samples: int
    metric: Metric = TOP1
    """What the next two are."""
    teacher_accuracy: float
    """On the test data, through the runtime."""
    student_accuracy: float
    test_samples: int
    provenance: dict[str, str]
    sha256: dict[str, str] = {}
    """Of the files that were verified; empty in runs of earlier versions, and where none was run."""
