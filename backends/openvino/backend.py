"""OpenVINO on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ..onnx.backend import OnnxBackend
from . import support
from .run import OpenVinoRunner


class OpenVinoBackend(OnnxBackend):
    """Lowers to ONNX; OpenVINO compiles it where it runs."""

    name: ClassVar[str] = "openvino"

    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""
        return support.why_not(target)

    def load(self, path: Path, target: Target) -> Runner:
        """Compile a lowered file."""
        return OpenVinoRunner(path, target)

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)
