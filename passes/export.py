"""Write the files that users deploy: ONNX, torch.export archive, and the checkpoint that hant reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..transformer.capture.save import save
from ..transformer.contracts.context import Context
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import ExportRecord, StudentRecord
from ..transformer.contracts.store import RunStore
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

    def lost(self, context: Context) -> str:
        """Return which files are missing or changed, or that they are of another student."""
        store = context.store
        record, student = store.get(ExportRecord, "export"), store.get(StudentRecord, "student")
        if student is not None and not store.path(student.file).is_file():
            return f"{student.file} is missing"
        source = "" if student is None else _source(context, student)
        if record is not None and record.source and source and record.source != source:
            return "the student has changed since"
        return told(wrong_files(store))

    def run(self, context: Context) -> PassResult:
        """Export teacher and student in eval mode, the batch left open."""
        record = context.store.get(StudentRecord, "student")
        assert record is not None, "required by the pass contract"
        student = load_student(context).network.eval()
        store = context.store
        made = _sound(context)
        files = {"student.safetensors": "student.safetensors", "student.json": "student.json"}
        if not made.issuperset(files):
            path = store.path("student.safetensors")
            save(student, path, example_inputs=context.example_inputs, selection=record.choice)
        for name, network in (("teacher.onnx", context.model), ("student.onnx", student)):
            files[name] = name
            if name not in made:
                path = store.path(name)
                context.backend.lower(network, context.example_inputs, context.target, path, dynamic_batch=True)
        files["student.pt2"] = "student.pt2"
        if "student.pt2" not in made:
            store.write("student.pt2", lambda path: export_archive(student, context.example_inputs, path))
        digests = {name: file_digest(store.path(name)) for name in files}
        store.put("export", ExportRecord(files=files, sha256=digests, source=_source(context, record)))
        size = store.path("student.onnx").stat().st_size
        return PassResult(notes=(f"student.onnx {size / 1e6:.2f} MB", ", ".join(sorted(files))))


def told(wrong: Mapping[str, str]) -> str:
    """Return in words what ``wrong_files`` found; empty where that is nothing."""
    words = {"missing": "missing", "changed": "not what was exported (another SHA-256)"}
    return ", ".join(f"{name} is {words[state]}" for name, state in wrong.items())


def wrong_files(store: RunStore) -> dict[str, str]:
    """Return the exported files of a run that are not as they were written -> ``missing`` or ``changed``."""
    record = store.get(ExportRecord, "export")
    wrong: dict[str, str] = {}
    for name, file in (record.files if record is not None else {}).items():
        path = store.path(file)
        if not path.is_file():
            wrong[name] = "missing"
        elif record is not None and record.sha256.get(name) not in (None, file_digest(path)):
            wrong[name] = "changed"
    return wrong


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sound(context: Context) -> set[str]:
    """Return the files that the finished pass wrote for this very student and that are as they were."""
    store = context.store
    record, student = store.get(ExportRecord, "export"), store.get(StudentRecord, "student")
    if record is None or student is None or not record.source or record.source != _source(context, student):
        return set()
    return record.files.keys() - wrong_files(store).keys()


def _source(context: Context, student: StudentRecord) -> str:
    """Return what the files of a student are made from; empty where its weights have no digest."""
    return student.digest and f"{student.digest}/{context.target.fingerprint}"


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
