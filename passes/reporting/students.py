"""The students of a run, side by side."""

from __future__ import annotations

from ...transformer.contracts.record import STUDENT
from ...transformer.contracts.store import Store
from ...transformer.errors import LoadError
from ...transformer.tools.reading import read_toml
from ..delivering.records import VerificationRecord
from ..selecting.records import SelectionRecord
from .schema import StudentReport


def students(store: Store) -> list[StudentReport]:
    """Return what is asked of each student of the run, and what came out where it is verified.

    The one that need not be named counts where it has selections, or is the only one.
    """
    seen = [store.of(name) for name in store.students()]
    return [
        _row(student)
        for student in seen
        if student.student != STUDENT or len(seen) == 1 or student.count(SelectionRecord.kind)
    ]


def _row(store: Store) -> StudentReport:
    path = store.path("config.toml")
    asked = read_toml(path, f"configuration {path}", LoadError) if path.is_file() else {}
    told = StudentReport(name=store.student, budget=str(asked.get("budget", "")), target=str(asked.get("target", "")))
    verified = store.get(VerificationRecord, "verification")
    if verified is None:
        return told
    return told.model_copy(
        update={
            "student_ms": verified.student.ms,
            "ratio": verified.ratio,
            "within_budget": verified.within_budget,
            "estimated": verified.student.estimated,
            "metric": verified.metric,
            "accuracy": verified.student_accuracy,
        }
    )
