"""ONNX Runtime: on the processor, and on CUDA or TensorRT execution providers where present."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ..onnx.backend import OnnxBackend
from . import support
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

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)
