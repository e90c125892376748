"""The base of all records of a run. Each kind stands with the pass that owns it, in its ``records.py``.

A kind's name is the artifact that passes require and ensure. Where the data have a task of their own, every loss and
cross-entropy is the task's loss, and every accuracy or top-1 is its metric, in its unit.
"""

from __future__ import annotations

from enum import Flag, auto
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

STUDENT = "student"
"""Name of the student that is meant where none is named."""


class Scope(Flag):
    """Whose a record is.

    All students of a run see what is of the run, and those on one target what is of that target. What is of both is
    found again by that student on that target only.
    """

    RUN = 0
    TARGET = auto()
    STUDENT = auto()


class Record(BaseModel):
    """Base: frozen, unknown fields refused. ``kind`` is the artifact's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # JSON knows no such numbers
    kind: ClassVar[str]
    scope: ClassVar[Scope] = Scope.STUDENT

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "kind" in vars(cls):
            _KINDS[cls.kind] = cls

    @classmethod
    def scope_of(cls, key: str) -> Scope:
        """Return whose the record under ``key`` is."""
        return cls.scope


_KINDS: dict[str, type[Record]] = {}


def scope_of(kind: str, key: str = "") -> Scope:
    """Return whose the record of the named kind under ``key`` is; what nobody has declared is a student's own."""
    return _KINDS[kind].scope_of(key) if kind in _KINDS else Scope.STUDENT
