"""From a run's records to the parts of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from ...backends.measuring.statistics import Interval, ratio_interval
from ...transformer.contracts.budget import Budget, Limit
from ...transformer.contracts.record import Record
from ...transformer.contracts.store import Store
from ...transformer.contracts.timing import Timing
from ...transformer.errors import UsageError
from ...transformer.ir.graph import Graph
from ...transformer.runs.records import PassRecord
from ..candidates.records import OperationRecord
from ..delivering.records import VerificationRecord
from ..designing.records import DesignRecord
from ..finetuning.records import EpochRecord, StudentRecord
from ..latency.predict import network_key
from ..latency.records import CalibrationRecord, LatencyRecord, NetworkLatencyRecord
from ..latency.table import fastest, operation_ms, slower
from ..pretraining.records import CandidateRecord
from ..ranking.records import RankRecord, WinnerRecord
from ..scoring.records import ScoreRecord
from ..searching.records import PrunetRecord
from ..selecting.records import ParetoRecord, SearchEngine, SelectionRecord
from .schema import (
    AccuracyReport,
    BlockReport,
    EpochReport,
    LatencyReport,
    LimitReport,
    NetworkReport,
    PointReport,
    SearchReport,
)

R = TypeVar("R", bound=Record)
_ROUNDING = 1e-9
"""Of the metric's unit; so that a drop of just what is allowed is allowed."""


def latency(verified: VerificationRecord) -> LatencyReport:
    """Return teacher and student as timed on the target."""
    plain = verified.plain_ratios
    return LatencyReport(
        teacher_ms=verified.teacher.ms,
        student_ms=verified.student.ms,
        ratio=verified.ratio,
        ratio_interval=(verified.ratio_low, verified.ratio_high),
        predicted_ratio=verified.predicted_ratio,
        estimated=verified.teacher.estimated or verified.student.estimated,
        teacher=verified.teacher,
        student=verified.student,
        plain_teacher_ms=None if plain is None else plain[0] * verified.teacher.ms,
        plain_student_ms=None if plain is None else plain[1] * verified.teacher.ms,
    )


def accuracy(store: Store, verified: VerificationRecord, max_drop: float | None) -> AccuracyReport:
    """Return the accuracies, and whether the drop is at most ``max_drop`` of the metric's unit (None: any)."""
    drop = verified.metric.drop(verified.teacher_accuracy, verified.student_accuracy)
    winner, student = store.get(WinnerRecord, "winner"), store.get(StudentRecord, "student")
    ranks = {record.index: record.accuracy for record in store.all(RankRecord).values()}
    return AccuracyReport(
        metric=verified.metric,
        teacher=verified.teacher_accuracy,
        student=verified.student_accuracy,
        drop=drop,
        samples=verified.test_samples,
        max_drop=max_drop,
        within_limit=max_drop is None or drop <= max_drop + _ROUNDING,
        selected=None if winner is None else ranks.get(winner.index),
        finetuned=None if student is None else student.held_out_accuracy,
    )


def measured_at(store: Store) -> str:
    """Return when teacher and student were timed on the target."""
    written = store.written(VerificationRecord, "verification")
    return "" if written is None else f"{written:%Y-%m-%d %H:%M} UTC"


def blocks(store: Store, graph: Graph, choice: Mapping[str, str], scale: float) -> list[BlockReport]:
    """Return each replaceable block before and after; a row of the table counts ``scale`` ms for each of its own."""
    listed, scores = store.all(OperationRecord), store.all(ScoreRecord)
    trained = store.all(CandidateRecord)
    latencies, times = store.all(LatencyRecord), operation_ms(store)
    rows = []
    for block in graph.replaceable:
        chosen, teacher = f"{block.name}/{choice[block.name]}", f"{block.name}/teacher"
        before, after = listed[teacher].latency_key, listed[chosen].latency_key
        rows.append(
            BlockReport(
                block=block.name,
                input=str(block.input),
                output=str(block.output),
                teacher=block.class_name,
                operation=choice[block.name],
                teacher_ms=scale * times[before],
                student_ms=scale * times[after],
                score=scores[chosen].delta if chosen in scores else None,
                nmse=trained[chosen].nmse if chosen in trained else None,
                estimated=any(latencies[key].timing.estimated for key in (before, after)),
            )
        )
    return rows


def sizes(store: Store, graph: Graph, choice: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return MACs and parameters, each of ``teacher`` and ``student``."""
    listed = store.all(OperationRecord)
    macs, parameters = graph.macs, graph.parameters
    for block in graph.replaceable:
        chosen = listed[f"{block.name}/{choice[block.name]}"]
        macs += chosen.macs - block.macs
        parameters += chosen.parameters - block.parameters
    return {"teacher": graph.macs, "student": macs}, {"teacher": graph.parameters, "student": parameters}


def limits(budget: Budget, macs: Mapping[str, int], parameters: Mapping[str, int]) -> list[LimitReport]:
    """Return the budget's further limits and what came of them."""
    costs = {"params": parameters, "macs": macs, "memory": {name: 4 * count for name, count in parameters.items()}}
    return [_limit(name, limit, costs[name]) for name, limit in budget.limits]


_OWN_NAME: tuple[SearchEngine, ...] = ("prunet", "scratch", "columns")
"""Engines that are a pass of the same name."""


def search(store: Store, winner: WinnerRecord) -> SearchReport:
    """Return how the selection was found."""
    engine = _engine(store)
    way = store.get(PrunetRecord, "search") if engine in ("prunet", "scratch") else None
    return SearchReport(
        engine=engine,
        objective=winner.objective,
        bound=winner.bound,
        rank=winner.index,
        selections=store.count(SelectionRecord.kind) or store.count(DesignRecord.kind),
        candidates=_states(store),
        probabilities={name: list(row) for name, row in way.probabilities.items()} if way else {},
        widths={name: list(row) for name, row in way.widths.items()} if way else {},
    )


def _engine(store: Store) -> SearchEngine:
    if store.count(DesignRecord.kind):
        return "design"
    if store.get(PassRecord, "choose") is not None:
        return "shared"
    for name in _OWN_NAME:
        if store.get(PassRecord, name) is not None:
            return name
    search = store.get(PassRecord, "search")
    if search is None:
        return "ilp"
    return "errors" if search.options.get("search") == "errors" else "linear"


def _states(store: Store) -> dict[str, int]:
    """Return how many candidates are in which state; those that are slower on the target count as dropped."""
    slow = slower(store)
    states = Counter(record.state for key, record in store.all(CandidateRecord).items() if key not in slow)
    return dict(states + Counter({"dropped": len(slow)}))


def networks(store: Store, winner: WinnerRecord, verified: VerificationRecord) -> list[NetworkReport]:
    """Return every measured network, the slowest first, and the exported student."""
    records, names = store.all(NetworkLatencyRecord), network_names(store, winner)
    teacher = records.get("teacher")
    found = [
        _network(
            names[key],
            record.timing,
            record.teacher,
            predicted_ratio=None
            if teacher is None or record.predicted_ms is None
            else record.predicted_ms / teacher.timing.ms,
            predicted_ms=record.predicted_ms,
        )
        for key, record in records.items()
    ]
    known = verified.predicted_ratio or None
    student = _network(
        "student",
        verified.student,
        verified.teacher,
        predicted_ratio=known,
        predicted_ms=known and known * verified.teacher.ms,
    )
    return [*sorted(found, key=lambda network: -(network.ratio or 0.0)), student]


def network_names(store: Store, winner: WinnerRecord) -> dict[str, str]:
    """Return what every measured network is, by its key."""
    known = {network_key(winner.choice): "winner", "teacher": "teacher", network_key(fastest(store)): "fastest"}
    for point in store.all(ParetoRecord).values():
        if point.choice:
            known.setdefault(network_key(point.choice), f"best at {point.budget}")
    for selection in store.all(SelectionRecord).values():
        known.setdefault(network_key(selection.choice), f"selection {selection.index}")
    calibration = store.get(CalibrationRecord, "calibration")
    for place, key in enumerate(() if calibration is None else calibration.networks, start=1):
        known.setdefault(key, f"calibration {place}")
    others = (key for key in store.all(NetworkLatencyRecord) if key not in known)
    return known | {key: f"tried {place}" for place, key in enumerate(others, start=1)}


def _network(
    name: str, timing: Timing, teacher: Timing, *, predicted_ratio: float | None, predicted_ms: float | None
) -> NetworkReport:
    ratio = timing.ms / teacher.ms
    found = Interval(ratio, ratio, ratio) if timing.estimated or teacher == timing else ratio_interval(timing, teacher)
    return NetworkReport(
        name=name,
        predicted_ms=predicted_ms,
        measured_ms=timing.ms,
        low=timing.low,
        high=timing.high,
        teacher_ms=teacher.ms,
        ratio=found.value,
        ratio_interval=(found.low, found.high),
        predicted_ratio=predicted_ratio,
        estimated=timing.estimated,
    )


def front(store: Store) -> list[PointReport]:
    """Return the points that ``hant-opt pareto`` found, by target and speed; those that are not met last."""
    points = [
        PointReport(
            met=bool(record.choice),
            **record.model_dump(include=set(PointReport.model_fields)),
        )
        for record in store.all(ParetoRecord).values()
    ]
    return sorted(points, key=lambda point: (point.target, not point.met, point.ratio, point.budget))


def training(store: Store) -> list[EpochReport]:
    """Return the epochs of alignment and fine-tuning in order, with the start of each."""
    kept = set(EpochReport.model_fields)
    epochs = [EpochReport(**record.model_dump(include=kept)) for record in store.all(EpochRecord).values()]
    return sorted(epochs, key=lambda epoch: (epoch.stage, epoch.epoch))


def seconds(store: Store) -> dict[str, float]:
    """Return the seconds of each pass, in the order in which they finished last."""
    records = store.all(PassRecord)
    finished = [str(event["name"]) for _, event in store.events("pass_finished")]
    last = {name: place for place, name in enumerate(finished)}
    return {name: records[name].seconds for name in sorted(records, key=lambda name: last.get(name, -1))}


def need(store: Store, kind: type[R], key: str) -> R:
    """Return a record that the report cannot do without.

    Raises:
        UsageError: there is none; the message names the command that makes it.
    """
    record = store.get(kind, key)
    if record is None:
        raise UsageError(f"the run has no {kind.kind}; run: hant-opt {kind.kind} RUN")
    return record


def _limit(name: str, limit: Limit, cost: Mapping[str, int]) -> LimitReport:
    most = limit.absolute(float(cost["teacher"]))
    return LimitReport(
        name=name, limit=most, teacher=cost["teacher"], student=cost["student"], kept=cost["student"] <= most
    )
