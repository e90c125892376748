"""Fill the lookup table: the time of every operation on the target.

HANT section 3: "a hardware specific look-up table is precomputed for each candidate operation". Operations that are
slower than the teacher's block are dropped from training, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..transformer.contracts.context import Context
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.records import (
    CandidateRecord,
    LatencyModelRecord,
    LatencyRecord,
    NetworkLatencyRecord,
    OperationRecord,
)
from ..transformer.contracts.store import RunStore
from ..transformer.errors import UsageError
from .profile_plan import Plan, Row, plan
from .profile_row import measure_operations, measure_reference
from .workbench import Workbench

KEPT = ("teacher", "identity")
"""Operations that are never dropped."""


@dataclass(frozen=True)
class ProfilePass(Pass):
    """Time every distinct operation once, then drop candidates that are slower than the teacher's block."""

    name: ClassVar[str] = "profile"
    requires: ClassVar[tuple[str, ...]] = ("operation",)
    ensures: ClassVar[tuple[str, ...]] = ("latency", "network_latency")

    group: int = 12
    """Operations that are lowered together and timed interleaved."""
    keep_slower: bool = False
    """Train operations that are slower than the teacher's block as well."""

    def run(self, context: Context) -> PassResult:
        """Time what is not yet in the table; each time is kept the moment it is known."""
        bench = Workbench(context)
        provenance = here(context)
        check_provenance(context.store, context.target.fingerprint, provenance)
        try:
            measured = _measure(context, bench, provenance, self.group)
        finally:
            bench.clean()
        dropped = drop_slower(context.store, self.keep_slower)
        rows = context.store.count(LatencyRecord.kind)
        return PassResult(notes=(f"{measured} operations timed, {rows} in the table; {dropped} candidates are slower",))


def here(context: Context) -> dict[str, str]:
    """Return what a latency measured now depends on, the target included."""
    return {**context.backend.provenance(context.target), "target": context.target.fingerprint}


def check_provenance(store: RunStore, fingerprint: str, provenance: dict[str, str]) -> None:
    """Refuse to mix latencies of this device with those of another in one table.

    Whole networks measured on another target are forgotten; rows of another target stay, under their own keys.

    Raises:
        UsageError: the run holds latencies of the same target from another device or runtime, with the difference.
    """
    for record in store.all(LatencyRecord).values():
        if record.target == fingerprint:
            changed = differences(record.provenance, provenance)
            if changed:
                raise UsageError(
                    f"the run's latencies were measured elsewhere: {changed}; go on there, "
                    "or give another --output to measure here"
                )
            break
    teacher = store.get(NetworkLatencyRecord, "teacher")
    if teacher is not None and teacher.provenance != provenance:
        with store.transaction():
            store.delete(NetworkLatencyRecord)
            store.delete(LatencyModelRecord)


def differences(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Return how two provenances differ, ``device 'a' is not 'b'``; empty if they agree."""
    names = sorted(theirs.keys() | ours.keys())
    changed = [name for name in names if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name, 'unknown')!r} is not {ours.get(name, 'unknown')!r}" for name in changed)


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
