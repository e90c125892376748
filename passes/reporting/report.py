"""Write what was asked and what came out: ``report.json``, ``report.html`` and ``report.md``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Factor, Pass, PassResult
from ...transformer.contracts.store import Store
from ..delivering.export import file_digest
from ..delivering.records import ExportRecord, VerificationRecord
from ..latency.predict import split_up
from ..ranking.records import WinnerRecord
from ..selecting.records import SelectionRecord
from . import gather
from .comment import comment
from .designed import design_of, parts_of_design, sizes_of_student
from .figures.run import operation_shares
from .origin import origin
from .page import page
from .records import FigureRecord, ReportRecord
from .schema import ParityReport, Report
from .students import students

_FILES = ("report.json", "report.html", "report.md")


@dataclass(frozen=True)
class ReportPass(Pass):
    """Gather the run's records into one report, and render it."""

    name: ClassVar[str] = "report"
    requires: ClassVar[tuple[str, ...]] = ("winner", "export", "verification")
    uses: ClassVar[tuple[str, ...]] = ("pareto", "figure")
    ensures: ClassVar[tuple[str, ...]] = ("report",)

    budget: Budget = Budget()
    max_drop: Factor | None = None
    """Largest loss of accuracy that is allowed, in points; the command fails where it is larger. None: any."""

    def lost(self, context: Context) -> str:
        """Return which files are missing or changed, or that they tell of what is no longer so."""
        store, record = context.store, context.store.get(ReportRecord, "report")
        digests = dict.fromkeys(_FILES) if record is None else dict.fromkeys(_FILES) | record.sha256
        for name, digest in digests.items():
            if not store.path(name).is_file():
                return f"{name} is missing"
            if digest and digest != file_digest(store.path(name)):
                return f"{name} has been changed"
        outdated = record is not None and record.sources not in ("", _sources(store))
        return "what it tells of has changed" if outdated else ""

    def run(self, context: Context) -> PassResult:
        """Write each file atomically."""
        report = build_report(context, self.budget, self.max_drop)
        files = {
            "report.json": report.model_dump_json(indent=1),
            "report.html": page(report),
            "report.md": comment(report),
        }
        for name, content in files.items():
            context.store.write(name, content)
        digests = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
        context.store.put("report", ReportRecord(file="report.json", sources=_sources(context.store), sha256=digests))
        return PassResult(notes=(", ".join(files),))


def _sources(store: Store) -> str:
    """Return a hash of the records that a report tells of."""
    text = json.dumps([store.payloads(kind) for kind in ("winner", "student", "export", "verification")])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_report(context: Context, budget: Budget, max_drop: float | None = None) -> Report:
    """Return the report of a finished run.

    Raises:
        UsageError: a stage is missing; the message names it.
    """
    store, graph = context.store, context.teacher
    winner = gather.need(store, WinnerRecord, "winner")
    verified = gather.need(store, VerificationRecord, "verification")
    export = gather.need(store, ExportRecord, "export")
    design = design_of(context)
    if design is None:
        scale, *rest = split_up(store, winner.choice, verified.teacher.ms, verified.predicted_ratio)
        macs, parameters = gather.sizes(store, graph, winner.choice)
        blocks, outside = gather.blocks(store, graph, winner.choice, scale), (rest[0], rest[1])
    else:
        blocks, outside = parts_of_design(context, verified.teacher.ms, verified.predicted_ratio)
        macs, parameters = sizes_of_student(context)
    return Report(
        budget=str(budget),
        target=context.target.model_dump(),
        within_budget=verified.within_budget,
        latency=gather.latency(verified),
        accuracy=gather.accuracy(store, verified, max_drop),
        parity=ParityReport(
            max_abs_difference=verified.max_abs_difference,
            max_scaled_difference=verified.max_scaled_difference,
            samples=verified.parity_samples,
            top1_agreement=verified.top1_agreement,
        ),
        selection=winner.choice,
        blocks=blocks,
        search=gather.search(store, winner),
        parameters=parameters,
        macs=macs,
        seconds=gather.seconds(store),
        environment=verified.provenance,
        files=export.sha256 | {figure.file: figure.sha256 for figure in store.all(FigureRecord).values()},
        limits=gather.limits(budget, macs, parameters),
        networks=gather.networks(store, winner, verified),
        front=gather.front(store),
        training=gather.training(store),
        operations=operation_shares([record.choice for record in store.all(SelectionRecord).values()]),
        origin=origin(store),
        outside_ms=dict(zip(("teacher", "student"), outside, strict=True)),
        student=store.student,
        students=[other for other in students(store) if other.name != store.student],
        design=design,
        measured_at=gather.measured_at(store),
    )
