"""What a runtime plugin does: say whether it can, lower, run, time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .target import Target
from .timing import Timing


class Runner(ABC):
    """A lowered network that is ready to run."""

    @abstractmethod
    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once on arrays of the shapes it was lowered with; dimension 0 is the target's batch."""

    @abstractmethod
    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Place the inputs on the device and return a call that runs once and does nothing else."""


class Backend(ABC):
    """A runtime. One folder a backend, registered by entry point ``hant.backends``."""

    name: ClassVar[str]

    @abstractmethod
    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""

    @abstractmethod
    def lower(self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path) -> None:
        """Write the runtime's file for ``module`` to ``path``, atomically.

        ``inputs`` are example tensors; the batch is theirs. ``module`` is put in eval mode for the export and
        left as it was.

        Raises:
            CaptureError: the module cannot be exported, with the operation that stopped it.
        """

    @abstractmethod
    def load(self, path: Path, target: Target) -> Runner:
        """Open a lowered file."""

    @abstractmethod
    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners against each other, interleaved, by the target's protocol."""

    @abstractmethod
    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
