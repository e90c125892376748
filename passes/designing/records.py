"""Records of a design: the MasterNet, its perturbations and what they say, and the structures that were drawn."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from ...transformer.contracts.record import Record, Scope


class MasterRecord(Record):
    """The network whose super-blocks are varied. Key: ``master``."""

    kind: ClassVar[str] = "master"
    scope: ClassVar[Scope] = Scope.RUN
    structure: str
    file: str
    """safetensors file of its weights, relative to the run."""
    digest: str
    accuracy: float
    """On held-out training images."""
    loss: float
    recipe: str = ""
    """Of its training; empty where the teacher is the MasterNet."""


class PerturbationRecord(Record):
    """The MasterNet with another super-block at one place, after its short training. Key: ``place/operation@width``."""

    kind: ClassVar[str] = "perturbation"
    scope: ClassVar[Scope] = Scope.RUN
    place: int
    """Of the stem 0, of the super-blocks 1 and on, of the last convolution the last."""
    type: str
    """The operation without its depth, such as ``bl_3x3_r0.25``."""
    depth: int
    """Basic blocks; 1 of a convolution."""
    width: int
    reference: bool
    """Whether depth and width are the MasterNet's own."""
    loss: float
    """On held-out training images, norms recalibrated."""
    accuracy: float
    recipe: str


class Fit(BaseModel):
    """A plane through a metric's change: ``offset + by_depth * (d - d0) + by_width * log(c / c0)``."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    offset: float
    by_depth: float
    by_width: float
    errors: tuple[float, float, float]
    """Standard errors of the three."""
    r2: float
    """Of the samples that it was fitted on."""
    r2_left_out: float
    """Of each sample by a fit on the others; where that is below 0 the gradients are taken as 0."""
    tau: float
    """Kendall's, of fitted against found."""
    r2_paper: float
    """Of the published form: linear in width, no offset, about the MasterNet itself."""
    published: bool = False
    """Whether this is the published form: ``by_depth * (d - d0) + by_width * (c / c0 - 1)``."""

    def at(self, deeper: float, log_wider: float) -> float:
        """Return the predicted change."""
        wider = math.expm1(log_wider) if self.published else log_wider
        return self.offset + self.by_depth * deeper + self.by_width * wider


class GradientRecord(Record):
    """What depth and width of one type do at one place. Key: ``place/type``."""

    kind: ClassVar[str] = "gradient"
    scope: ClassVar[Scope] = Scope.RUN
    place: int
    type: str
    samples: int
    loss: Fit
    """Change of the held-out loss, against the MasterNet's own block treated alike."""
    accuracy: Fit


class CostRecord(Record):
    """What one type takes at one place: coefficients (ms) of the terms in ``costs.py``.

    Key: ``place/type``, behind the size of the images where that is not the teacher's: ``24x24/2/xx_3x3``.
    """

    kind: ClassVar[str] = "cost"
    scope: ClassVar[Scope] = Scope.TARGET
    place: int
    type: str
    entry: tuple[float, ...]
    """Of the first basic block, or the convolution."""
    body: tuple[float, ...]
    """Of each further basic block; empty for a convolution."""
    rows: int
    """Timed rows that they were fitted on."""
    error: float
    """Largest deviation of a timed row, as a share of it."""
    estimated: bool = False


class DesignRecord(Record):
    """A structure that the program drew. Key: its number, the best first; or a hash for one that was tried only."""

    kind: ClassVar[str] = "design"
    scope: ClassVar[Scope] = Scope.TARGET | Scope.STUDENT
    index: int
    structure: str
    size: tuple[int, int] | None = None
    """(H, W) of its images; None where they are as the teacher's."""
    loss_change: float
    """Predicted sum over the places."""
    bound: float
    """Proven lower bound of that sum for any such structure."""
    accuracy_change: float
    predicted_ratio: float
    """Over the teacher, by the lookup table."""
    measured_ms: float
    teacher_ms: float
    """The teacher, timed interleaved with it."""
    ratio: float
    border: int
    """Decisions that lie on the border of the searched box."""
    decisions: int
    estimated: bool = False


class ResolutionRecord(Record):
    """What designs there are for one size of images. Key: ``HxW``."""

    kind: ClassVar[str] = "resolution"
    scope: ClassVar[Scope] = Scope.TARGET | Scope.STUDENT
    size: tuple[int, int] | None
    """None where the images are as the teacher's."""
    designs: int
    """Inside the budget."""
    reason: str = ""
    """Why there are none."""


class SpectrumRecord(Record):
    """Singular values of one convolution of the teacher. Key: its path."""

    kind: ClassVar[str] = "spectrum"
    scope: ClassVar[Scope] = Scope.RUN
    stage: int
    """Counted from 0; a new one begins where the blocks' output changes in shape."""
    shape: tuple[int, ...]
    """Of the kernel (C', C, k, k)."""
    values: tuple[float, ...]
    """Over the largest, falling; empty where it is left out."""
    area: float
    """Their mean: the area under the paper's curve."""
    entropy_rank: float
    """Exponential of the entropy of their shares, over their number: 1 where all are equal."""
    reason: str = ""
    """Why it is left out."""


class WidthRecord(Record):
    """Time of a row of basic blocks of one width. Key: ``target fingerprint/block/width/size of the maps``."""

    kind: ClassVar[str] = "width"
    scope: ClassVar[Scope] = Scope.RUN
    block: str
    """``xx``, ``bl r 0.25``, ``dw r 0.5``, ..."""
    width: int
    ms: float
    """An image."""
    estimated: bool = False
