"""Records of the report and its figures."""

from __future__ import annotations

from typing import ClassVar

from ...transformer.contracts.record import Record


class FigureRecord(Record):
    """A drawing. Key: its name."""

    kind: ClassVar[str] = "figure"
    title: str
    file: str
    """SVG, relative to the run."""
    sha256: str


class ReportRecord(Record):
    """The written report. Key: ``report``."""

    kind: ClassVar[str] = "report"
    file: str
    sources: str = ""
    """Digest of the records that it tells of; empty in runs of earlier versions."""
    sha256: dict[str, str] = {}
    """Of the files."""
