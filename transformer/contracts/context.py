"""What a pass is given to work with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...op_library.op_spec import OpSpec
from ..contracts.store import Store
from ..errors import UsageError
from ..ir.graph import Graph
from .backend import Backend
from .data import Data
from .progress import Progress
from .target import Target
from .task import TOP1, Metric


@dataclass(frozen=True)
class Context:
    """Everything around a pass. The runner replaces ``graph`` when a pass returns a new one."""

    model: nn.Module
    """The teacher as loaded."""
    example_inputs: tuple[Tensor, ...]
    """Inputs of batch 1 or more, to trace and export with."""
    store: Store
    """Of the run as the target, and the student in work, have it."""
    target: Target
    backend: Backend
    pool: tuple[OpSpec, ...]
    data: Data | None = None
    graph: Graph | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where training and evaluation run; latency is measured on the target."""
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", self.store.on(self.target.fingerprint))

    @property
    def teacher(self) -> Graph:
        """The captured teacher."""
        if self.graph is None:
            raise UsageError("no graph in the context; run CapturePass first")
        return self.graph

    @property
    def dataset(self) -> Data:
        """The user's data."""
        if self.data is None:
            raise UsageError(
                "this stage needs data; give --data: digits, cifar10:DIR, imagefolder:DIR or module:function"
            )
        return self.data

    @property
    def metric(self) -> Metric:
        """What the quality of networks is told in."""
        return TOP1 if self.data is None else self.data.task.metric
