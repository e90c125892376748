"""What the runtimes that take an ONNX graph have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from ...transformer.contracts.backend import Backend, Runner
from ...transformer.contracts.target import Target
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError
from ..measuring.stopwatch import interleave
from .chain import export_chains
from .export import export_graph, write_graph
from .tile import tiled


class OnnxBackend(Backend):
    """Lowers to one ONNX file. A runtime that changes or checks the graph first has its own ``finish``."""

    def finish(self, graph: onnx.ModelProto, inputs: Sequence[Tensor], target: Target, path: Path) -> None:
        """Write the exported graph of a module with these inputs.

        Raises:
            CaptureError: the runtime refuses it, with its words.
        """
        write_graph(graph, path)

    def lower(
        self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
    ) -> None:
        """Export ``module`` and finish its graph."""
        self.finish(export_graph(module, inputs, dynamic_batch), inputs, target, path)

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
        graphs = export_chains(modules, [args[0] for args in inputs])
        return tuple(
            self._why_unfinished(graph, args, target, path)
            for graph, args, path in zip(graphs, inputs, paths, strict=True)
        )

    def _why_unfinished(
        self, graph: onnx.ModelProto | CaptureError, inputs: Sequence[Tensor], target: Target, path: Path
    ) -> str | None:
        if isinstance(graph, CaptureError):
            return str(graph)
        try:
            self.finish(graph, inputs, target, path)
        except CaptureError as error:
            return str(error)
        return None

    def packed(self, path: Path, target: Target) -> bytes:
        """Return the graph with its weights tiled, so that a kit stays small."""
        content: bytes = tiled(self.for_device(onnx.load(path), target)).SerializeToString()
        return content

    def for_device(self, graph: onnx.ModelProto, target: Target) -> onnx.ModelProto:
        """Return the graph as a runtime takes it by itself. One that is given more when it is opened has its own."""
        return graph

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners interleaved; the first is the reference."""
        calls = [runner.prepare(*args) for runner, args in zip(runners, inputs, strict=True)]
        return interleave(calls, target.protocol)
