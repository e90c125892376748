"""OpenVINO on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...transformer.contracts.backend import Backend, Runner
from ...transformer.contracts.target import Target
from ...transformer.contracts.timing import Timing
from ..onnx.chain import lower_chains
from ..onnx.export import export_graph, write_graph
from ..stopwatch import interleave
from . import support
from .run import OpenVinoRunner


class OpenVinoBackend(Backend):
    """Lowers to ONNX; OpenVINO compiles it where it runs."""

    name: ClassVar[str] = "openvino"

    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""
        return support.why_not(target)

    def lower(
        self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
    ) -> None:
        """Write ``module`` as one ONNX file."""
        write_graph(export_graph(module, inputs, dynamic_batch), path)

    def lower_many(
        self,
        modules: Sequence[nn.Module],
        inputs: Sequence[Sequence[Tensor]],
        target: Target,
        paths: Sequence[Path],
    ) -> tuple[str | None, ...]:
        """Export modules of one input together; parts that sequences share go through the exporter once."""
        if any(len(args) != 1 for args in inputs):
            return super().lower_many(modules, inputs, target, paths)
        return lower_chains(modules, [args[0] for args in inputs], paths)

    def load(self, path: Path, target: Target) -> Runner:
        """Compile a lowered file."""
        return OpenVinoRunner(path, target)

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners interleaved; the first is the reference."""
        calls = [runner.prepare(*args) for runner, args in zip(runners, inputs, strict=True)]
        return interleave(calls, target.protocol)

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)
