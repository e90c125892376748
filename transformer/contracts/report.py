"""The schema of ``report.json``. Versioned: fields are added, never renamed, within one version."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .timing import Timing


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LatencyReport(_Part):
    """Teacher and student, timed interleaved on the target."""

    teacher_ms: float
    student_ms: float
    ratio: float
    """Student over teacher."""
    ratio_interval: tuple[float, float]
    """Bootstrap interval of the ratio."""
    predicted_ratio: float
    """From the lookup table, before the student was built."""
    estimated: bool
    """True if anything above was not measured on the target."""
    teacher: Timing
    """With the raw samples (ms)."""
    student: Timing


class AccuracyReport(_Part):
    """Top-1 on the test data through the runtime, in percent."""

    teacher: float
    student: float
    drop: float
    """Teacher minus student, in points."""
    samples: int


class ParityReport(_Part):
    """The runtime's outputs of the student against PyTorch's."""

    max_abs_difference: float
    samples: int


class BlockReport(_Part):
    """One row of the table of blocks."""

    block: str
    input: str
    output: str
    teacher: str = ""
    """The teacher's operation: the class of the block, such as ``BasicBlock``."""
    operation: str
    """The chosen operation."""
    teacher_ms: float
    """Of the teacher's operation, from the lookup table."""
    student_ms: float
    """Of the chosen operation."""
    score: float
    """Change of cross-entropy when the chosen operation alone replaces the block."""


class SearchReport(_Part):
    """How the selection was found."""

    objective: float
    bound: float
    """Proven lower bound of the objective."""
    rank: int
    """Index of the winner among the selections."""
    selections: int
    candidates: dict[str, int]
    """How many candidates were trained, dropped, failed."""


class Report(_Part):
    """What was asked and what came out."""

    version: Literal[1] = 1
    budget: str
    target: dict[str, Any]
    within_budget: bool
    latency: LatencyReport
    accuracy: AccuracyReport
    parity: ParityReport
    selection: dict[str, str]
    blocks: list[BlockReport]
    search: SearchReport
    parameters: dict[str, int]
    macs: dict[str, int]
    seconds: dict[str, float]
    """Of each stage."""
    environment: dict[str, str]
    files: dict[str, str]
    """What was written, relative to the run, with sha256."""
