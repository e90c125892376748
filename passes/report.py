"""Write ``report.json``: what was asked and what came out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from ..transformer.contracts.budget import Budget, Limit
from ..transformer.contracts.context import Context
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import (
    CandidateRecord,
    ExportRecord,
    FigureRecord,
    LatencyRecord,
    OperationRecord,
    PassRecord,
    Record,
    ReportRecord,
    ScoreRecord,
    SelectionRecord,
    VerificationRecord,
    WinnerRecord,
)
from ..transformer.contracts.report import (
    AccuracyReport,
    BlockReport,
    LatencyReport,
    ParityReport,
    Report,
    SearchReport,
)
from ..transformer.contracts.store import RunStore
from ..transformer.errors import UsageError

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class ReportPass(Pass):
    """Gather the run's records into one file."""

    name: ClassVar[str] = "report"
    requires: ClassVar[tuple[str, ...]] = ("winner", "export", "verification")
    ensures: ClassVar[tuple[str, ...]] = ("report",)

    budget: Budget = field(default_factory=lambda: Budget(Limit(0.45, relative=True)))

    def run(self, context: Context) -> PassResult:
        """Write the report atomically."""
        report = build_report(context, self.budget)
        context.store.write("report.json", report.model_dump_json(indent=1))
        context.store.put("report", ReportRecord(file="report.json"))
        return PassResult(notes=("report.json",))


def build_report(context: Context, budget: Budget) -> Report:
    """Return the report of a finished run."""
    store = context.store
    winner = _need(store, WinnerRecord, "winner")
    verified = _need(store, VerificationRecord, "verification")
    export = _need(store, ExportRecord, "export")
    blocks = _blocks(context, winner.choice)
    macs, parameters = _sizes(context, winner.choice)
    return Report(
        budget=str(budget),
        target=context.target.model_dump(),
        within_budget=verified.within_budget,
        latency=_latency(verified),
        accuracy=AccuracyReport(
            teacher=verified.teacher_accuracy,
            student=verified.student_accuracy,
            drop=verified.teacher_accuracy - verified.student_accuracy,
            samples=verified.test_samples,
        ),
        parity=ParityReport(max_abs_difference=verified.max_abs_difference, samples=verified.parity_samples),
        selection=winner.choice,
        blocks=blocks,
        search=SearchReport(
            objective=winner.objective,
            bound=winner.bound,
            rank=winner.index,
            selections=store.count(SelectionRecord.kind),
            candidates=dict(Counter(record.state for record in store.all(CandidateRecord).values())),
        ),
        parameters=parameters,
        macs=macs,
        seconds=_seconds(store),
        environment=verified.provenance,
        files=export.sha256 | {figure.file: figure.sha256 for figure in store.all(FigureRecord).values()},
    )


def _seconds(store: RunStore) -> dict[str, float]:
    """Return the seconds of each pass, in the order in which they finished last."""
    records = store.all(PassRecord)
    finished = [str(event["name"]) for _, event in store.events("pass_finished")]
    last = {name: place for place, name in enumerate(finished)}
    return {name: records[name].seconds for name in sorted(records, key=lambda name: last.get(name, -1))}


def _latency(verified: VerificationRecord) -> LatencyReport:
    return LatencyReport(
        teacher_ms=verified.teacher.ms,
        student_ms=verified.student.ms,
        ratio=verified.ratio,
        ratio_interval=(verified.ratio_low, verified.ratio_high),
        predicted_ratio=verified.predicted_ratio,
        estimated=verified.teacher.estimated or verified.student.estimated,
        teacher=verified.teacher,
        student=verified.student,
    )


def _blocks(context: Context, choice: dict[str, str]) -> list[BlockReport]:
    listed, scores = context.store.all(OperationRecord), context.store.all(ScoreRecord)
    latencies = context.store.all(LatencyRecord)
    rows = []
    for block in context.teacher.replaceable:
        chosen, teacher = f"{block.name}/{choice[block.name]}", f"{block.name}/teacher"
        rows.append(
            BlockReport(
                block=block.name,
                input=str(block.input),
                output=str(block.output),
                teacher=block.class_name,
                operation=choice[block.name],
                teacher_ms=latencies[listed[teacher].latency_key].timing.ms,
                student_ms=latencies[listed[chosen].latency_key].timing.ms,
                score=scores[chosen].delta,
            )
        )
    return rows


def _sizes(context: Context, choice: dict[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return MACs and parameters of teacher and student."""
    listed, graph = context.store.all(OperationRecord), context.teacher
    macs, parameters = graph.macs, graph.parameters
    for block in graph.replaceable:
        chosen = listed[f"{block.name}/{choice[block.name]}"]
        macs += chosen.macs - block.macs
        parameters += chosen.parameters - block.parameters
    return {"teacher": graph.macs, "student": macs}, {"teacher": graph.parameters, "student": parameters}


def _need(store: RunStore, kind: type[R], key: str) -> R:
    record = store.get(kind, key)
    if record is None:
        raise UsageError(f"the run has no {kind.kind}; run: hant-opt {kind.kind} RUN")
    return record
