"""PyTorch itself as the runtime: the papers' "PyTorch" column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...transformer.contracts.backend import Backend, Estimator, Runner
from ...transformer.contracts.target import Target
from ...transformer.contracts.timing import Timing
from ...transformer.errors import UsageError
from ..cost_model.estimate import estimator
from ..measuring.cuda import DeviceClock, side_stream
from ..measuring.stopwatch import Call, interleave
from . import support
from .lower import lower_module
from .run import PyTorchRunner


class PyTorchBackend(Backend):
    """Lowers to a checkpoint that holds no code; runs eagerly or compiled, on the processor or on CUDA."""

    name: ClassVar[str] = "pytorch"
    suffix: ClassVar[str] = ".pt"

    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""
        return support.why_not(target)

    def lower(
        self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
    ) -> None:
        """Write ``module`` as one checkpoint at the target's precision."""
        lower_module(module, inputs, support.PRECISIONS[target.precision], path)

    def load(self, path: Path, target: Target) -> Runner:
        """Open a lowered file."""
        return PyTorchRunner(path, target)

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners interleaved on the target's threads; the first is the reference."""
        with support.thread_limit(target):
            if target.device != "cuda":
                return interleave(_calls(runners, inputs), target.protocol)
            with torch.cuda.stream(side_stream()):
                return interleave(_calls(runners, inputs), target.protocol, clock=DeviceClock())

    def estimator(self, target: Target) -> Estimator:
        """Return what estimates latencies of an absent GPU; eager mode only."""
        if support.mode(target) != "eager":
            raise UsageError(f"target {target.name}: there are estimates for mode 'eager' only")
        return estimator(target, "pytorch")

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)


def _calls(runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]]) -> list[Call]:
    return [runner.prepare(*args) for runner, args in zip(runners, inputs, strict=True)]
