"""ONNX Runtime: on the processor, and on CUDA or TensorRT execution providers where present."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import ClassVar

from ...transformer.contracts.backend import KitPart, Runner
from ...transformer.contracts.target import Target
from ..measuring import interval, rounds
from ..measuring import machine as device
from ..onnx.backend import OnnxBackend
from ..options import asked
from . import session, support
from .run import OnnxRuntimeRunner


class OnnxRuntimeBackend(OnnxBackend):
    """Lowers to ONNX, runs and times in ONNX Runtime sessions."""

    name: ClassVar[str] = "onnxruntime"

    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""
        return support.why_not(target)

    def load(self, path: Path, target: Target) -> Runner:
        """Open a lowered file."""
        return OnnxRuntimeRunner(path, target)

    def kit(self, target: Target) -> KitPart:
        """Return what a kit for ``target`` needs: the session and the stopwatch that are used here too."""
        on_cpu = support.provider(target) == "CPUExecutionProvider"
        return KitPart(
            sources=tuple(inspect.getsource(module) for module in (interval, rounds, device, session)),
            needs={"numpy": "numpy", "onnxruntime": "onnxruntime" if on_cpu else "onnxruntime-gpu"},
            settings=support.settings(target),
            asked=asked(target),
        )

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)
