"""The base of all records of a run. Each kind stands with the pass that owns it, in its ``records.py``.

A kind's name is the artifact that passes require and ensure. Where the data have a task of their own, every loss and
cross-entropy is the task's loss, and every accuracy or top-1 is its metric, in its unit.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base: frozen, unknown fields refused. ``kind`` is the artifact's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # JSON knows no such numbers
    kind: ClassVar[str]
