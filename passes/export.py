"""Write the files that users deploy: ONNX, torch.export archive, and the checkpoint that hant reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..transformer.capture.save import save
from ..transformer.contracts.context import Context
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import ExportRecord, StudentRecord
from ..transformer.contracts.work import Work
from ..transformer.errors import CaptureError
from .assemble import load_student


@dataclass(frozen=True)
class ExportPass(Pass):
    """Write ``student.onnx``, ``student.pt2``, ``student.safetensors`` + ``student.json``, and ``teacher.onnx``."""

    name: ClassVar[str] = "export"
    requires: ClassVar[tuple[str, ...]] = ("student",)
    ensures: ClassVar[tuple[str, ...]] = ("export",)

    def work(self, context: Context) -> Work:
        """Count the bytes of the files, each of which holds a network's weights."""
        return Work("4 files", bytes=4 * 4 * context.teacher.parameters)

    def run(self, context: Context) -> PassResult:
        """Export teacher and student in eval mode, the batch left open."""
        record = context.store.get(StudentRecord, "student")
        assert record is not None, "required by the pass contract"
        student = load_student(context).network.eval()
        store = context.store
        files = {"student.safetensors": "student.safetensors", "student.json": "student.json"}
        save(student, store.path("student.safetensors"), example_inputs=context.example_inputs, selection=record.choice)
        for name, network in (("teacher.onnx", context.model), ("student.onnx", student)):
            context.backend.lower(network, context.example_inputs, context.target, store.path(name), dynamic_batch=True)
            files[name] = name
        store.write("student.pt2", lambda path: export_archive(student, context.example_inputs, path))
        files["student.pt2"] = "student.pt2"
        digests = {name: hashlib.sha256(store.path(name).read_bytes()).hexdigest() for name in files}
        store.put("export", ExportRecord(files=files, sha256=digests))
        size = store.path("student.onnx").stat().st_size
        return PassResult(notes=(f"student.onnx {size / 1e6:.2f} MB", ", ".join(sorted(files))))


def export_archive(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Write ``module`` as a ``torch.export`` archive with an open batch dimension.

    Raises:
        CaptureError: torch.export refuses the module, with its words.
    """
    doubled = tuple(torch.cat([tensor, tensor]) for tensor in inputs)
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    try:
        program = torch.export.export(module, doubled, dynamic_shapes=dynamic)
        with path.open("wb") as handle:
            torch.export.save(program, handle)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CaptureError(f"torch.export cannot write {path.name}: {reason}") from error
