"""Records of a run: plain data, one kind a stage. The kind's name is the artifact that passes require and ensure.

Where the data have a task of their own, every loss and cross-entropy is the task's loss, and every accuracy or top-1 is
its metric, in its unit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from .metric import TOP1, Metric
from .timing import Timing


class Record(BaseModel):
    """Base: frozen, unknown fields refused. ``kind`` is the artifact's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # JSON knows no such numbers
    kind: ClassVar[str]


class PassRecord(Record):
    """A finished pass."""

    kind: ClassVar[str] = "pass"
    fingerprint: str
    """Of its options and of the passes it builds on."""
    options: dict[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()
    unverified: str = ""
    """Why what it made could not be verified; such a pass runs again."""


class RunRecord(Record):
    """What the run is bound to for good. Key: ``run``."""

    kind: ClassVar[str] = "run"
    teacher: str
    """Hash of the teacher's weights and structure."""
    inputs: tuple[str, ...]
    """Shapes of one sample, such as ``3x32x32``."""
    data: str | None
    """Name of the data; None until a stage needs data."""
    seed: int
    structure: str = ""
    """Hash of what the teacher computes, apart from its weights; empty until it is captured."""
    content: str = ""
    """Hash of the data's sizes and labels; empty until a stage needs data."""
    looks: tuple[tuple[float, ...], ...] = ()
    """How some images look: means of their quarters."""


class OperationRecord(Record):
    """Whether an operation can stand for a block. Key: ``block/operation``."""

    kind: ClassVar[str] = "operation"
    block: str
    operation: str
    fits: bool
    reason: str = ""
    """Why it does not fit."""
    parameters: int = 0
    macs: int = 0
    latency_key: str = ""
    """Key of the latency record that holds its time; shared by equal blocks."""


class LatencyRecord(Record):
    """Time of one operation at given shapes on a target: a row of the lookup table.

    Key: ``target fingerprint/operation/input->output``.
    """

    kind: ClassVar[str] = "latency"
    operation: str
    input: str
    output: str
    target: str
    timing: Timing
    provenance: dict[str, str]


class NetworkLatencyRecord(Record):
    """Time of a whole network. Key: hash of its selection, ``teacher`` for the teacher itself."""

    kind: ClassVar[str] = "network_latency"
    selection: dict[str, str]
    timing: Timing
    teacher: Timing
    """The teacher, timed interleaved with it."""
    predicted_ms: float | None = None
    provenance: dict[str, str]


class CalibrationRecord(Record):
    """What a few measured whole networks say of the lookup table. Key: ``calibration``."""

    kind: ClassVar[str] = "calibration"
    added: dict[str, float]
    """Key of the row of an own block that cannot be taken out -> what it costs in the network beyond the row (ms)."""
    networks: tuple[str, ...]
    """Keys of the measured networks."""


class LatencyModelRecord(Record):
    """How the sum of the table predicts the whole network: ``fixed_ms + slope * sum``. Key: ``model``."""

    kind: ClassVar[str] = "latency_model"
    fixed_ms: float
    slope: float
    teacher_ms: float
    networks: int
    """How many measured whole networks it was fitted on."""


class CandidateRecord(Record):
    """An operation trained for a block. Key: ``block/operation``."""

    kind: ClassVar[str] = "candidate"
    block: str
    operation: str
    state: Literal["ready", "failed", "dropped"]
    reason: str = ""
    """Why it failed or was dropped."""
    nmse: float | None = None
    """Mean squared error on held-out images over the variance of the teacher's output."""
    steps: int = 0
    seconds: float = 0.0
    file: str = ""
    """safetensors file, relative to the run; empty where there are no weights to keep."""
    recipe: str = ""
    """Fingerprint of how it was trained."""
    digest: str = ""
    """Of the file's tensors; empty in runs of earlier versions."""


class SlowerRecord(Record):
    """An operation that is slower on the target than its block's own and is not selected. Key: ``block/operation``.

    It says nothing of the candidate's training, which serves other targets.
    """

    kind: ClassVar[str] = "slower"
    block: str
    operation: str
    reason: str


class ScoreRecord(Record):
    """Change of loss when one candidate alone replaces its block. Key: ``block/operation``."""

    kind: ClassVar[str] = "score"
    block: str
    operation: str
    delta: float
    """Cross-entropy with the candidate minus the teacher's, on held-out training images."""
    accuracy: float
    """Top-1 with the candidate, in percent."""
    samples: int
    recipe: str = ""
    left_out: bool = False
    """Whether it loses more accuracy than the score pass allows, so that no search may choose it."""


class SelectionRecord(Record):
    """One operation per block. Key: its index, ``000`` first."""

    kind: ClassVar[str] = "selection"
    index: int
    choice: dict[str, str]
    objective: float
    bound: float
    """Proven lower bound of the objective under the same constraints."""
    cost: dict[str, float]
    """Of every limited quantity, in its unit."""
    predicted_ms: float


class EvaluationRecord(Record):
    """A whole network of candidates run on held-out training images. Key: ``recipe/hash of the choice``.

    Ranking, baselines and studies of the proxy share these: the same network is never evaluated twice.
    """

    kind: ClassVar[str] = "evaluation"
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
    """A selection after a short fine-tuning. Key: hash of the choice, of its candidates and of the recipe."""

    kind: ClassVar[str] = "finalist"
    choice: dict[str, str]
    epochs: int
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


class LimitRecord(Record):
    """The limit that every search within a budget is given. Key: ``target fingerprint/budget``."""

    kind: ClassVar[str] = "limit"
    ms: float
    """Of the lookup table's sum, corrected by measured networks."""
    source: str = ""
    """Digest of the table that it was settled on; empty in runs of earlier versions."""


class BaselineRecord(Record):
    """What another search found within the same budget. Key: ``method/budget``."""

    kind: ClassVar[str] = "baseline"
    method: str
    budget: str
    choice: dict[str, str]
    objective: float
    cost: dict[str, float]
    """Summed over the blocks, by name."""
    limits: dict[str, float]
    """Of the sums."""
    loss: float
    """Cross-entropy on held-out training images, before fine-tuning."""
    accuracy: float
    samples: int
    networks: int
    """How many whole networks the search ran."""
    losses: tuple[float, ...] = ()
    """Of each network over the images that it was run on: at least one batch, all for the best."""
    seconds: float
    """CPU time of the search."""


class ParetoRecord(Record):
    """The best network within one budget on one target, before fine-tuning. Key: ``target/budget``."""

    kind: ClassVar[str] = "pareto"
    budget: str
    target: str
    choice: dict[str, str]
    """Empty where the budget cannot be met."""
    reason: str = ""
    """Why it cannot be met."""
    objective: float = 0.0
    bound: float = 0.0
    loss: float = 0.0
    """Cross-entropy on held-out training images, before fine-tuning."""
    accuracy: float = 0.0
    """Top-1 on held-out training images, before fine-tuning, percent."""
    samples: int = 0
    predicted_ms: float = 0.0
    measured_ms: float = 0.0
    teacher_ms: float = 0.0
    """The teacher, timed interleaved with it."""
    ratio: float = 0.0
    """Measured network over teacher."""
    estimated: bool = False
    """True if the latencies were not measured on the target."""
    on_front: bool = False
    """Whether no other point is at least as fast and loses less."""
    selections: int = 0


class ProxyRecord(Record):
    """How well the sum of loss changes ranks networks. Key: ``proxy``."""

    kind: ClassVar[str] = "proxy"
    networks: int
    samples: int
    """Held-out training images that each was run on."""
    kendall_loss: float
    """Of the sum of loss changes against the real cross-entropy."""
    spearman_loss: float
    kendall_accuracy: float
    """Of the sum against the share of errors."""
    spearman_accuracy: float
    power: float = 1.0
    """Each loss change counts as this power of it (the sign is kept) ..."""
    weights: dict[str, float] = {}
    """... times the weight of its block; empty if no correction was kept."""
    held_out: int = 0
    """Networks that the correction was judged on and not fitted to."""
    kendall_plain: float = 0.0
    """Of the plain sum on those."""
    kendall_corrected: float = 0.0
    """Of the corrected sum on those."""
    kept: bool = False


class FigureRecord(Record):
    """A drawing. Key: its name."""

    kind: ClassVar[str] = "figure"
    title: str
    file: str
    """SVG, relative to the run."""
    sha256: str


class EpochRecord(Record):
    """One epoch of fine-tuning. Key: ``epoch number``."""

    kind: ClassVar[str] = "epoch"
    epoch: int
    train_loss: float
    held_out_accuracy: float
    learning_rate: float
    seconds: float
    recipe: str


class StudentRecord(Record):
    """The fine-tuned student. Key: ``student``."""

    kind: ClassVar[str] = "student"
    file: str
    """safetensors file of the whole network's weights, relative to the run."""
    choice: dict[str, str]
    epochs: int
    held_out_accuracy: float
    digest: str = ""
    """Of the file's tensors; empty in runs of earlier versions."""


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


class ReportRecord(Record):
    """The written report. Key: ``report``."""

    kind: ClassVar[str] = "report"
    file: str
    sources: str = ""
    """Digest of the records that it tells of; empty in runs of earlier versions."""
    sha256: dict[str, str] = {}
    """Of the files."""
