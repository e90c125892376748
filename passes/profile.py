"""Fill the lookup table: the time of every operation on the target.

HANT section 3: "a hardware specific look-up table is precomputed for each candidate operation". Operations that are
slower than the teacher's block are dropped from training, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..transformer.contracts.context import Context
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import (
    CandidateRecord,
    LatencyRecord,
    NetworkLatencyRecord,
    OperationRecord,
)
from ..transformer.contracts.store import RunStore
from .latency_model import fastest, measure_network, refit
from .profile_plan import Plan, Row, plan
from .profile_row import measure_operations, measure_reference
from .provenance import check_provenance, expected_provenance, here
from .table_file import import_table
from .workbench import Workbench

KEPT = ("teacher", "identity")
"""Operations that are never dropped."""


@dataclass(frozen=True)
class ProfilePass(Pass):
    """Time every distinct operation once, then drop candidates that are slower than the teacher's block.

    The network of the fastest operations is measured as a whole: so the user hears at once which budgets can be met,
    and predictions lie between two measured networks.
    """

    name: ClassVar[str] = "profile"
    requires: ClassVar[tuple[str, ...]] = ("operation",)
    ensures: ClassVar[tuple[str, ...]] = ("latency", "network_latency")

    group: int = 12
    """Operations that are lowered together and timed interleaved."""
    keep_slower: bool = False
    """Train operations that are slower than the teacher's block as well."""

    table: str = ""
    """JSON file of a table that was measured before, on this device or for a target that cannot be run here."""

    def run(self, context: Context) -> PassResult:
        """Time what is not yet in the table."""
        provenance, notes = expected_provenance(context), []
        check_provenance(context.store, context.target.fingerprint, provenance)
        if self.table:
            count = import_table(context.store, context.target, provenance, Path(self.table))
            notes.append(f"{count} rows of {self.table} added")
        measured = _measure_missing(context, self.group)
        dropped = drop_slower(context.store, self.keep_slower)
        rows = context.store.count(LatencyRecord.kind)
        notes.append(f"{measured} operations timed, {rows} in the table; {dropped} candidates are slower")
        if context.backend.unavailable(context.target) is None:
            least = measure_network(context, fastest(context.store))
            refit(context.store)
            notes.append(f"the fastest network takes {least.timing.ms / least.teacher.ms:.3f} of the teacher's latency")
        return PassResult(notes=tuple(notes))


def drop_slower(store: RunStore, keep_slower: bool) -> int:
    """Mark candidates that are slower than their block's own operation as dropped; return how many are.

    A mark of an earlier table is taken back. ``teacher`` and ``identity`` always stay.
    """
    listed, latencies = store.all(OperationRecord), store.all(LatencyRecord)
    known = store.all(CandidateRecord)
    dropped = 0
    with store.transaction():
        for key, record in listed.items():
            teacher = listed.get(f"{record.block}/teacher")
            reason = ""
            if teacher is not None and record.fits and record.operation not in KEPT and not keep_slower:
                ours, theirs = latencies[record.latency_key].timing.ms, latencies[teacher.latency_key].timing.ms
                reason = f"{ours:.4g} ms is slower than the teacher's {theirs:.4g} ms" if ours > theirs else ""
            if reason:
                dropped += 1
                mark = CandidateRecord(block=record.block, operation=record.operation, state="dropped", reason=reason)
                store.put(key, mark)
            elif key in known and known[key].state == "dropped":
                store.delete(CandidateRecord, key)
    return dropped


def _measure_missing(context: Context, group: int) -> int:
    """Measure what the table lacks; return how many rows that were."""
    whole = context.store.get(NetworkLatencyRecord, "teacher")
    if whole is not None and not plan(context).missing:
        return 0
    return _measure(context, Workbench(context), here(context), group)


def _measure(context: Context, bench: Workbench, provenance: dict[str, str], group: int) -> int:
    """Measure the teacher, then all rows that the table lacks; return how many were measured."""
    store = context.store
    if store.get(NetworkLatencyRecord, "teacher") is None:
        timing = bench.time([], [])[0]
        whole = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=provenance)
        store.put("teacher", whole)
    todo = plan(context)
    with context.progress.task("profile", todo.missing) as task:
        for row, record in _rows(context, bench, todo, provenance, group):
            if isinstance(record, str):
                _refuse(store, row, record)
            else:
                store.put(row.key, record)
            task.advance(1, row.operation)
    return todo.missing


def _rows(
    context: Context, bench: Workbench, todo: Plan, provenance: dict[str, str], group: int
) -> Iterator[tuple[Row, LatencyRecord | str]]:
    """Yield each missing row with its record, or with the reason why it cannot be lowered."""
    whole = context.store.get(NetworkLatencyRecord, "teacher")
    assert whole is not None, "measured before"
    for site in todo.sites:
        if site.reference is not None:
            timing = measure_reference(bench, context, site, whole.timing.ms)
            yield site.reference, site.reference.record(context.target, timing, provenance)
        own = context.store.get(LatencyRecord, site.reference_key)
        assert own is not None, "yielded before and stored"
        for start in range(0, len(site.rows), group):
            rows = site.rows[start : start + group]
            measured = measure_operations(bench, context, site, rows, own.timing.ms, whole.timing.ms)
            for row, result in zip(rows, measured, strict=True):
                yield row, result if isinstance(result, str) else row.record(context.target, result, provenance)


def _refuse(store: RunStore, row: Row, reason: str) -> None:
    """Write that the operation does not fit after all, wherever it was listed."""
    with store.transaction():
        for key, record in store.all(OperationRecord).items():
            if record.latency_key == row.key:
                store.put(key, record.model_copy(update={"fits": False, "reason": reason}))
