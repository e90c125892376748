"""Records of selections."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...transformer.contracts.record import Record

SearchEngine = Literal["errors", "linear", "ilp", "columns", "prunet", "shared", "design", "scratch"]
"""What finds selections."""
SEARCHES = ("search", "prunet", "scratch", "columns", "choose")
"""Names of the passes that run networks to make selections."""
MAKERS = ("select", *SEARCHES)
"""Names of all passes that make selections."""


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


class ParetoRecord(Record):
    """The best network within one budget on one target, before fine-tuning. Key: ``target/budget``."""

    kind: ClassVar[str] = "pareto"
    budget: str
    """Or the price of latency that it was searched at, as ``alpha=0.6``."""
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

    @property
    def aim(self) -> str:
        """What it was searched for, in words."""
        return self.budget if self.budget.startswith("alpha=") else f"budget {self.budget}"


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
