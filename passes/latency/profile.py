"""Fill the lookup table: the time of every operation on the target.

HANT section 3: "a hardware specific look-up table is precomputed for each candidate operation". Operations that are
slower than the teacher's block are dropped from training, as there; those that lose accuracy can be left out by the
score pass (``largest_drop``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

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
from .between import fill
from .calibration import calibrate
from .estimates import estimating_bench, forget_estimates, forget_outdated_estimates, is_estimated
from .measure import measure_network
from .plan import Plan, Row, ladders, plan
from .predict import refit
from .provenance import absence, what_instead
from .records import LatencyRecord, NetworkLatencyRecord, SlowerRecord
from .rows import GLANCE, Formula, Group, groups, refuse, row_timing
from .table import by_latency, fastest, operation_ms
from .widths import non_dominated
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
    widths: Literal["all", "bisect"] = "all"
    """What is timed of operations that differ in their width only: ``all``; or, with ``bisect``, the ends and as many
    middles as tell where the latency rises. The others lie on lines between, as estimates, and those that are no faster
    than a wider one are not trained."""

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
        measured = measure_missing(context, self.group, self.widths == "bisect")
        calibrate(context)
        no_faster = _no_faster(context) if self.widths == "bisect" else {}
        dropped = drop_slower(context.store, self.keep_slower, no_faster)
        rows = context.store.count(LatencyRecord.kind)
        notes = [f"{measured} operations timed, {rows} in the table; {dropped} candidates are slower"]
        least = measure_network(context, fastest(context.store))
        refit(context.store)
        how = "is estimated to take" if least.timing.estimated else "takes"
        notes.append(f"the fastest network {how} {least.timing.ms / least.teacher.ms:.3f} of the teacher's latency")
        check_not_estimated(context)
        return PassResult(notes=tuple(notes))


def drop_slower(store: Store, keep_slower: bool, no_faster: Mapping[str, str] = MappingProxyType({})) -> int:
    """Write which candidates are slower than their block's own operation; return how many are.

    So are those whose row's key is in ``no_faster``, which says what wider operation is as fast.

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
            if teacher is not None and record.fits and not _is_kept(record.operation):
                ours, theirs = latencies[record.latency_key], latencies[teacher.latency_key]
                if ours > theirs and not keep_slower:
                    reason = f"{ours:.4g} ms is slower than the teacher's {theirs:.4g} ms"
                elif record.latency_key in no_faster:
                    reason = f"{no_faster[record.latency_key]} is wider and as fast"
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


def _no_faster(context: Context) -> dict[str, str]:
    """Return the widths that a wider one is as fast as, and the widest of these, by the key of the row."""
    ms, found = operation_ms(context.store), dict[str, str]()
    for site in plan(context).sites:
        for ladder in ladders(site.listed):
            times = [ms[row.key] for row in ladder]
            worth = set(non_dominated([row.key for row in ladder], times))
            for place, row in enumerate(ladder):
                if row.key not in worth:
                    found[row.key] = next(other.operation for other in ladder[place + 1 :] if other.key in worth)
    return found


def measure_missing(context: Context, group: int = 12, bisect: bool = False) -> int:
    """Measure what the table lacks, or estimate where nothing can be measured; return how many rows that were.

    With ``bisect`` of operations that differ in their width only what tells the others, which are then estimates.

    Raises:
        UsageError: the device is not here, and there is neither a table of it nor a cost model; says what is missing.
    """
    absent, count = absence(context) is not None, 0
    todo = plan(context, estimates_count=absent, bisect=bisect)
    if context.store.get(NetworkLatencyRecord, "teacher") is None or todo.missing:
        count = _measure(context, _bench(context, todo), group, bisect)
    if bisect:
        todo = plan(context, estimates_count=absent, bisect=True)
        rows = context.store.all(LatencyRecord)
        fill(context, todo.sites, rows[todo.sites[0].reference_key].provenance)
    return count


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


def _measure(context: Context, bench: Workbench, group: int, bisect: bool) -> int:
    """Measure the teacher, then all rows that the table lacks; return how many those were."""
    store, provenance = context.store, bench.provenance
    whole = store.get(NetworkLatencyRecord, "teacher")
    if whole is None:
        timing = bench.time([], [])[0]
        whole = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=provenance)
        store.put("teacher", whole)
    tried = set[str]()
    while not (wanted := (todo := plan(context, estimates_count=whole.timing.estimated, bisect=bisect)).keys) <= tried:
        tried |= wanted
        with context.progress.task("profile", todo.missing) as task:
            for each in groups(context, todo, group):
                for row, found in _rows(bench, each, store, whole.timing.ms):
                    if isinstance(found, str):
                        with store.transaction():
                            refuse(store, row.key, found)
                    else:
                        store.put(row.key, row.record(context.target, found, provenance))
                    task.advance(1, row.operation)
    return len(tried)


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
