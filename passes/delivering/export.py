"""Write the files that users deploy: the runtime's, a torch.export archive, and the checkpoint that hant reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult, Work
from ...transformer.contracts.store import Store
from ...transformer.data.images import batches, shuffled, size
from ...transformer.data.splits import split
from ...transformer.errors import CaptureError
from ...transformer.files.save import save
from ...transformer.rewrite.deploy import deploy
from ..finetuning.records import StudentRecord
from ..networks.assemble import load_student
from ..networks.resolution import as_student_sees
from .records import ExportRecord

CHECKPOINT = ("student.safetensors", "student.json")
"""The student for ``hant.load``: its weights, and its network as data."""
ARCHIVE = "student.pt2"
CALIBRATION = 128
"""Images of the training data that the ranges of INT8 are taken from."""


@dataclass(frozen=True)
class ExportPass(Pass):
    """Write ``teacher.onnx`` and ``student.onnx``, ``student.safetensors`` with its ``.json``, and ``student.pt2``.

    The runtime's files come first. Of the others, one that cannot be written is left out, and the record says why.
    """

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
        """Export teacher and student in eval mode, the batch left open.

        Raises:
            CaptureError: the runtime does not take the network.
        """
        record = context.store.get(StudentRecord, "student")
        assert record is not None, "required by the pass contract"
        student = deploy(load_student(context).network.eval())
        store, backend, seen = context.store, context.backend, as_student_sees(context)
        inputs, made = seen.example_inputs, _sound(context)
        files = [backend.artefact("teacher"), backend.artefact("student")]
        known = _known(context, files[0])
        if files[0] not in made and known is not None:
            store.write(files[0], known.read_bytes())
            made |= {files[0]}
        for name, network, view in zip(files, (deploy(context.model), student), (context, seen), strict=True):
            if name not in made:
                backend.lower(network, typical_inputs(view), context.target, store.path(name), dynamic_batch=True)
        left_out = dict[str, str]()
        try:
            if not made.issuperset(CHECKPOINT):
                save(student, store.path(CHECKPOINT[0]), example_inputs=inputs, selection=record.choice)
            files += CHECKPOINT
        except CaptureError as error:
            left_out |= dict.fromkeys(CHECKPOINT, str(error))
        try:
            if ARCHIVE not in made:
                store.write(ARCHIVE, lambda path: export_archive(student, inputs, path))
            files.append(ARCHIVE)
        except CaptureError as error:
            left_out[ARCHIVE] = str(error)
        for name in left_out:
            store.path(name).unlink(missing_ok=True)  # of an earlier student
        digests = {name: file_digest(store.path(name)) for name in files}
        written = {name: name for name in files}
        store.put(
            "export",
            ExportRecord(files=written, sha256=digests, source=_source(context, record), left_out=left_out),
        )
        size = store.path(files[1]).stat().st_size
        notes = (f"{files[1]} {size / 1e6:.2f} MB", ", ".join(sorted(files)))
        reasons = {why: name for name, why in reversed(left_out.items())}
        return PassResult(notes=(*notes, *(f"{name} is left out: {why}" for why, name in reversed(reasons.items()))))


def typical_inputs(context: Context) -> tuple[Tensor, ...]:
    """Return the inputs to export with: where the target quantizes, images of the training data to calibrate on.

    They are drawn by the seed from the part that is trained on. Example inputs are noise.
    """
    if context.target.precision != "int8" or context.data is None:
        return context.example_inputs
    fit = split(context.data, context.seed).fit
    order = shuffled(size(fit), context.seed, 0)[:CALIBRATION]
    return (next(iter(batches(fit, CALIBRATION, order)))[0],)


def told(wrong: Mapping[str, str]) -> str:
    """Return in words what ``wrong_files`` found; empty where that is nothing."""
    words = {"missing": "missing", "changed": "not what was exported (another SHA-256)"}
    return ", ".join(f"{name} is {words[state]}" for name, state in wrong.items())


def wrong_files(store: Store) -> dict[str, str]:
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


def _known(context: Context, name: str) -> Path | None:
    """Return the teacher's file as another student of the run has it on the same target; None if none has."""
    for student in context.store.students():
        store = context.store.of(student)
        record = store.get(ExportRecord, "export")
        same = record is not None and record.source.endswith(f"/{context.target.fingerprint}")
        if record is not None and same and name in record.files and name not in wrong_files(store):
            return store.path(record.files[name])
    return None


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
    except OSError:
        raise
    except Exception as error:  # torch.export's errors share no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CaptureError(f"torch.export cannot write {path.name}: {reason}") from error
