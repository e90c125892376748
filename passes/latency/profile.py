"""Fill the lookup table: the time of every operation on the target.

HANT section 3: "a hardware specific look-up table is precomputed for each candidate operation". Operations that are
slower than the teacher's block are dropped from training, as there; those that lose accuracy can be left out by the
score pass (``largest_drop``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...op_library.pools import parsed
from ...transformer.contracts.backend import Runner
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Work, setting
from ...transformer.contracts.store import Store
from ...transformer.contracts.timing import Timing
from ...transformer.errors import UnverifiedError, UsageError
from ..candidates.candidates import row_name
from ..candidates.records import OperationRecord
from ..pretraining.records import CandidateRecord
from .calibration import calibrate
from .estimates import estimating_bench, forget_estimates, forget_outdated_estimates, is_estimated
from .measure import measure_network
from .plan import Plan, Row, plan
from .predict import refit
from .provenance import absence, what_instead
from .records import LatencyRecord, NetworkLatencyRecord, SlowerRecord
from .rows import GLANCE, Formula, Group, groups, refuse, row_timing
from .table import by_latency, fastest, operation_ms
from .workbench import Workbench

_SECONDS_A_ROW = 0.7
"""What lowering and timing an operation takes, about, on a machine of two cores."""


@dataclass(frozen=True)
class ProfilePass(Pass):
    """Time every distinct operation once, then drop candidates that are slower than the teacher's block.

    The network of the fastest operations is measured as a whole: so the user hears at once which budgets can be met,
    and predictions lie between two measured networks.
    """

    name: ClassVar[str] = "profile"
    requires: ClassVar[tuple[str, ...]] = ("operation",)
    ensures: ClassVar[tuple[str, ...]] = ("latency", "network_latency")

    group: Count = setting(12, decides=False)
    """Operations that are lowered together and timed interleaved."""
    keep_slower: bool = False
    """Train operations that are slower than the teacher's block as well."""

    def work(self, context: Context) -> Work:
        """Count the distinct operations; each is lowered and timed beside the teacher's."""
        blocks = {block.name: block for block in context.teacher.replaceable}
        specs = {spec.name: spec for spec in context.pool}
        rows = {
            (row_name(blocks[record.block], specs[record.operation]), str(blocks[record.block].contracts))
            for record in context.store.all(OperationRecord).values()
            if record.fits and record.block in blocks and record.operation in specs
        }
        return Work(f"{len(rows)} operations to time", seconds=_SECONDS_A_ROW * len(rows))

    def run(self, context: Context) -> PassResult:
        """Time what is not yet in the table.

        Raises:
            UsageError: the device is not here, and there is neither a table of it nor a cost model.
            UnverifiedError: the device is not here; the table is complete, by estimates.
        """
        if context.backend.unavailable(context.target) is None:
            forget_estimates(context)
        forget_outdated_estimates(context)
        measured = _measure_missing(context, self.group)
        calibrate(context)
        dropped = drop_slower(context.store, self.keep_slower)
        rows = context.store.count(LatencyRecord.kind)
        notes = [f"{measured} operations timed, {rows} in the table; {dropped} candidates are slower"]
        least = measure_network(context, fastest(context.store))
        refit(context.store)
        how = "is estimated to take" if least.timing.estimated else "takes"
        notes.append(f"the fastest network {how} {least.timing.ms / least.teacher.ms:.3f} of the teacher's latency")
        check_not_estimated(context)
        return PassResult(notes=tuple(notes))


def drop_slower(store: Store, keep_slower: bool) -> int:
    """Write which candidates are slower than their block's own operation; return how many are.

    Those of an earlier table are taken back; the candidates themselves stay as they are. What is derived from the block
    or has no weights is never among them: it is there at no cost, and may be faster on another target.
    """
    listed, latencies = store.all(OperationRecord), operation_ms(store)
    dropped = 0
    with store.transaction():
        store.delete(SlowerRecord)
        for key, old in store.all(CandidateRecord).items():
            if by_latency(old):
                store.delete(CandidateRecord, key)
        for key, record in listed.items():
            teacher = listed.get(f"{record.block}/teacher")
            reason = ""
            if teacher is not None and record.fits and not keep_slower and not _is_kept(record.operation):
                ours, theirs = latencies[record.latency_key], latencies[teacher.latency_key]
                reason = f"{ours:.4g} ms is slower than the teacher's {theirs:.4g} ms" if ours > theirs else ""
            if reason:
                dropped += 1
                store.put(key, SlowerRecord(block=record.block, operation=record.operation, reason=reason))
    return dropped


def _is_kept(operation: str) -> bool:
    spec = parsed(operation)
    return spec is not None and (spec.derived or spec.weightless)


def check_not_estimated(context: Context) -> None:
    """Say so where the run's lookup table is made of estimates.

    Raises:
        UnverifiedError: it is; names the absent device and the way to measure.
    """
    teacher = context.store.get(NetworkLatencyRecord, "teacher")
    if is_estimated(context) and teacher is not None:
        raise UnverifiedError(
            f"all latencies are estimated, the teacher's at {teacher.timing.ms:.4g} ms: {absence(context)}; "
            f"{what_instead(context)}"
        )


def _measure_missing(context: Context, group: int) -> int:
    """Measure what the table lacks, or estimate where nothing can be measured; return how many rows that were.

    Raises:
        UsageError: the device is not here, and there is neither a table of it nor a cost model; says what is missing.
    """
    todo = plan(context, estimates_count=absence(context) is not None)
    if context.store.get(NetworkLatencyRecord, "teacher") is not None and not todo.missing:
        return 0
    _measure(context, _bench(context, todo), group)
    return todo.missing


def _bench(context: Context, todo: Plan) -> Workbench:
    """Return where to measure, or what estimates."""
    reason = absence(context)
    if reason is None:
        return Workbench(context)
    no_estimate = "estimates are not mixed with what was measured"
    try:
        stand_in = estimating_bench(context)
        if stand_in is not None:
            return stand_in
    except UsageError as error:
        no_estimate = str(error)
    lacking = [row.operation for site in todo.sites for row in (site.reference, *site.rows) if row is not None]
    such = f", such as that of {lacking[0]}" if lacking else ""
    raise UsageError(f"{reason}; {todo.missing} latencies are missing{such} ({no_estimate}): {what_instead(context)}")


def _measure(context: Context, bench: Workbench, group: int) -> None:
    """Measure the teacher, then all rows that the table lacks."""
    store, provenance = context.store, bench.provenance
    whole = store.get(NetworkLatencyRecord, "teacher")
    if whole is None:
        timing = bench.time([], [])[0]
        whole = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=provenance)
        store.put("teacher", whole)
    todo = plan(context, estimates_count=whole.timing.estimated)
    with context.progress.task("profile", todo.missing) as task:
        for each in groups(context, todo, group):
            for row, found in _rows(bench, each, store, whole.timing.ms):
                if isinstance(found, str):
                    with store.transaction():
                        refuse(store, row.key, found)
                else:
                    store.put(row.key, row.record(context.target, found, provenance))
                task.advance(1, row.operation)


def _rows(bench: Workbench, group: Group, store: Store, teacher_ms: float) -> Iterator[tuple[Row, Timing | str]]:
    """Yield each row of a group with its time, or with the reason why it cannot be lowered.

    A few rounds tell which operations are slower than the block's own for certain; only the others get all rounds.
    """
    inputs = [(tensor,) for tensor in group.inputs]
    found = bench.lower(group.modules, inputs)
    reasons = [one if isinstance(one, str) else None for one in found]
    possible = {formula: group.why_not(formula, reasons) for formula in group.formulas}
    yield from ((formula.row, reason) for formula, reason in possible.items() if reason is not None)
    runners = {index: one for index, one in enumerate(found) if isinstance(one, Runner)}
    own = {formula: store.get(LatencyRecord, formula.plus) for formula, reason in possible.items() if reason is None}

    def time(formulas: Sequence[Formula], rounds: int) -> dict[Formula, Timing]:
        indices = sorted({0, *(index for formula in formulas for index, _ in formula.weights)})
        whole, *timings = bench.time([runners[i] for i in indices], [inputs[i] for i in indices], rounds)
        timed = dict(zip(indices, timings, strict=True))
        plus = {formula: record.timing.ms if record is not None else None for formula, record in own.items()}
        return {each: row_timing(each.weights, timed, whole, teacher_ms, plus[each]) for each in formulas}

    times = time(list(own), GLANCE) if own else {}
    close = [formula for formula, record in own.items() if record is None or times[formula].low <= record.timing.high]
    times |= time(close, group.rounds) if close else {}
    yield from ((formula.row, timing) for formula, timing in times.items())
