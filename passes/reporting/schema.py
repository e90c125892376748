"""The schema of ``report.json``. Versioned: fields are added, never renamed, within one version.

What was added later has a default, so that a report written before can still be read. ``docs/report.md`` lists all.
Where the data have a task of their own, losses are the task's and accuracies its metric (``AccuracyReport.metric``).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from ...transformer.contracts.record import STUDENT
from ...transformer.contracts.task import TOP1, Metric
from ...transformer.contracts.timing import Timing
from ..selecting.records import SearchEngine


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _named(target: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(target.get("name"), str):
        raise ValueError("it has no name")
    return target


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
    plain_teacher_ms: float | None = None
    """One plain call, arrays in and arrays out: all other latencies are of inputs and outputs bound to memory.
    None where that was not timed."""
    plain_student_ms: float | None = None


class AccuracyReport(_Part):
    """Quality on the test data through the runtime."""

    metric: Metric = TOP1
    """What it is told in: top-1 in percent unless the data have a task of their own."""
    teacher: float
    student: float
    drop: float
    """How much worse the student is, in the metric's unit (points for percent)."""
    samples: int
    max_drop: float | None = None
    """Largest drop that was allowed, in the same unit; None if nothing was said."""
    within_limit: bool = True
    """Whether the drop is allowed."""
    selected: float | None = None
    """Of the student before fine-tuning, on held-out training images through PyTorch."""
    finetuned: float | None = None
    """Of the student after fine-tuning, on the same images."""


class ParityReport(_Part):
    """The runtime's outputs of the student against PyTorch's."""

    max_abs_difference: float
    max_scaled_difference: float | None = None
    """Largest one over the largest absolute value of its output, where that is above 1; what the target limits."""
    samples: int
    top1_agreement: float | None = 1.0
    """Share of the samples with the same top-1 class in both; None where there are no classes."""


class LimitReport(_Part):
    """A limit besides the latency's, on the whole network."""

    name: str
    """``params``, ``macs`` or ``memory`` (bytes of the weights in FP32)."""
    limit: float
    teacher: float
    student: float
    kept: bool


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
    """What the teacher's operation takes of the teacher's latency, by the lookup table (``Report.outside_ms``)."""
    student_ms: float
    """What the chosen operation takes, in the same measure."""
    score: float | None = None
    """Change of cross-entropy when the chosen operation alone replaces the block; None where nothing was scored."""
    nmse: float | None = None
    """Pretraining's error of the chosen operation: its mean square over the variance of the block's output."""
    estimated: bool = False
    """True if one of the two latencies was not measured on the target."""

    @property
    def loses(self) -> str:
        """The score as text, where nothing was scored the error."""
        if self.score is not None:
            return f"{self.score:+.4f}"
        return "" if self.nmse is None else f"{self.nmse:.4f}"


class NetworkReport(_Part):
    """A whole network that was measured, each next to the teacher in the same minutes."""

    name: str
    """``teacher``, ``winner`` before its training, ``student`` as exported, or what else it was measured for."""
    predicted_ms: float | None
    """From the lookup table, before the network was measured; None where it served to fit the prediction."""
    measured_ms: float
    low: float
    """Lower end of the bootstrap interval (ms)."""
    high: float
    teacher_ms: float
    """The teacher, timed interleaved with it."""
    ratio: float | None = None
    """Over that teacher: milliseconds of different moments do not compare."""
    ratio_interval: tuple[float, float] | None = None
    predicted_ratio: float | None = None
    """Over the teacher, where ``predicted_ms`` is known."""
    estimated: bool = False


class PointReport(_Part):
    """The best network within one of several budgets, before fine-tuning (``hant-opt pareto``)."""

    budget: str
    target: str
    met: bool
    reason: str = ""
    """Why the budget is not met."""
    ratio: float = 0.0
    """Measured network over teacher."""
    measured_ms: float = 0.0
    teacher_ms: float = 0.0
    accuracy: float = 0.0
    """Top-1 on held-out training images, percent."""
    loss: float = 0.0
    """Cross-entropy on the same images."""
    on_front: bool = False
    """Whether no other point is at least as fast and loses less."""
    estimated: bool = False


class EpochReport(_Part):
    """One epoch of alignment or fine-tuning."""

    stage: str = "finetune"
    """``align`` or ``finetune``."""
    epoch: int
    """0 for what the stage starts from."""
    train_loss: float | None
    """None for the start."""
    divergence: float = 0.0
    """From the teacher's answers, in fine-tuning from the labels too, on held-out images; the least is kept."""
    held_out_accuracy: float
    """Top-1 on held-out training images, percent."""
    learning_rate: float
    seconds: float


class OriginReport(_Part):
    """What the run was made from, and how to make it again."""

    hant: str = ""
    """Version."""
    teacher: str = ""
    """Hash of the teacher's weights and structure."""
    inputs: list[str] = []
    """Shape of one sample of each input."""
    data: str = ""
    seed: int = 0
    command: str = ""
    """Makes the run again; empty where a program gave objects that a command cannot name."""
    configuration: dict[str, Any] = {}
    """The full effective configuration: every option of every pass."""


class StudentReport(_Part):
    """A student of the run; what came out is None while it is not verified."""

    name: str
    budget: str = ""
    target: str = ""
    student_ms: float | None = None
    ratio: float | None = None
    """Over the teacher, timed interleaved with it."""
    within_budget: bool | None = None
    estimated: bool = False
    metric: Metric = TOP1
    accuracy: float | None = None
    """On the test data, in the metric's unit."""


class SearchReport(_Part):
    """How the selection was found."""

    engine: SearchEngine = "ilp"
    """The integer program on the sum of scores or of pretraining's ``errors``, ``linear`` steps at whole networks,
    operations trained together, the sum of scores in ``shared`` weights, or the chain of a design."""
    objective: float
    """Of the winner: the sum of its scores or errors, or the change of loss that the last linear model sums up."""
    bound: float
    """Proven lower bound of the objective."""
    rank: int
    """Index of the winner among the selections."""
    selections: int
    candidates: dict[str, int]
    """How many candidates were trained, dropped, failed."""
    probabilities: dict[str, list[float]] = {}
    """Of ``prunet``: ``layer: operation`` that it ended in -> its probability, evenly over the search."""
    widths: dict[str, list[float]] = {}
    """Of ``prunet``: the same for layers that ended in one of many widths -> what was in work, share of the widest."""


class PlaneReport(_Part):
    """What depth and width of one type do at one place of a design, by local linear regression."""

    place: str
    """Part of the network: ``stem``, ``stages.0``, ``final_conv``."""
    type: str
    samples: int
    offset: float
    """Change of the held-out loss of the type at the MasterNet's own depth and width."""
    by_depth: float
    """Change of the loss a basic block."""
    by_width: float
    """Change of the loss, times the log of the width over the MasterNet's."""
    errors: tuple[float, float, float]
    """Standard errors of the three."""
    r2: float
    r2_left_out: float
    """Of left-out samples; where it is below 0 the gradients are taken as 0."""
    r2_paper: float
    """Of the published form, which has no offset."""


class StructureReport(_Part):
    """A structure that was drawn inside the budget."""

    structure: str
    resolution: str = ""
    """Size of its images, ``24x24``."""
    predicted_loss_change: float
    predicted_accuracy: float
    """The MasterNet's, on held-out images, and the predicted changes."""
    accuracy: float | None
    """Of the same images after a finalist's short training; None where it was not trained."""
    predicted_ratio: float
    ratio: float
    """Measured over the teacher, unless estimated."""


class ResolutionReport(_Part):
    """What was designed for one size of images."""

    resolution: str
    """``24x24``."""
    designs: int
    """Inside the budget."""
    structure: str
    """Of the best finalist; empty where there is none."""
    accuracy: float | None
    """Of that on held-out images after the finalists' short training."""
    error: float
    """Standard error of the accuracy, by the number of the images."""
    ratio: float | None
    """Measured over the teacher, unless estimated."""
    chosen: bool
    reason: str = ""
    """Why there are no designs."""


class DesignReport(_Part):
    """How a network was designed (``hant-opt design``)."""

    structure: str
    """Of the student."""
    master: str
    """Structure of the MasterNet."""
    master_accuracy: float
    """On held-out images."""
    border: int
    """Decisions of the student's structure that lie on the border of the searched space ..."""
    decisions: int
    """... of so many."""
    planes: list[PlaneReport]
    structures: list[StructureReport]
    resolutions: list[ResolutionReport] = []
    """By the size of images, the smallest first."""

    @property
    def resolution_told(self) -> bool:
        """Whether the chosen size is ahead of all others by more than two standard errors of the difference."""
        rows = [row for row in self.resolutions if row.accuracy is not None]
        best = next((row for row in rows if row.chosen), None)
        return best is not None and all(
            abs((best.accuracy or 0.0) - (row.accuracy or 0.0)) > 2 * math.hypot(best.error, row.error)
            for row in rows
            if not row.chosen
        )


class Report(_Part):
    """What was asked and what came out."""

    version: Literal[1] = 1
    budget: str
    target: Annotated[dict[str, Any], AfterValidator(_named)]
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
    limits: list[LimitReport] = []
    networks: list[NetworkReport] = []
    """The slowest first; the exported student last."""
    front: list[PointReport] = []
    training: list[EpochReport] = []
    operations: dict[str, float] = {}
    """Share of each operation over the blocks of all selections that were ranked, the most frequent first."""
    origin: OriginReport = OriginReport()
    outside_ms: dict[str, float] = {}
    """Of ``teacher`` and ``student``: what the whole network takes beyond its blocks. The teacher's adds up to its
    latency with the blocks, the student's to the prediction; below zero where blocks take less together than alone."""
    student: str = STUDENT
    """Name of the student in its run."""
    students: list[StudentReport] = []
    """The others of the run, as they were when this was written."""
    design: DesignReport | None = None
    """Of a designed network; None where the student is the teacher with other blocks."""
    measured_at: str = ""
    """When teacher and student were timed, as ``2026-01-31 09:30 UTC``."""

    @property
    def loses(self) -> str:
        """What the table of blocks says that an operation loses, as the head of its column."""
        return "loss change" if any(row.score is not None for row in self.blocks) else "error"
