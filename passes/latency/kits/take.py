"""Take over what a device measured with a kit: the same rows as if they had been measured by this run."""

from __future__ import annotations

import json
from pathlib import Path

from ....backends.measuring.statistics import summarise
from ....transformer.contracts.context import Context
from ....transformer.contracts.timing import Timing
from ....transformer.errors import LoadError, UsageError
from ....transformer.runs.weights import weights_digest
from ....transformer.tools.reading import parse_model
from ..estimates import forget_estimates
from ..predict import network_key
from ..provenance import differences, expected_provenance, of_target
from ..records import LatencyRecord, NetworkLatencyRecord
from ..rows import refuse, row_timing
from .expected import Expected
from .manifest import GroupPlan, KitResult, Manifest, Measured, RowPlan
from .measure import digest

_HINT = "give the result.json that a kit's measure.py wrote"


def is_result(content: bytes) -> bool:
    """Return whether the content of a file claims to be the result of a kit."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "digest" in data


def take_result(context: Context, content: bytes, path: Path) -> str:
    """Add what the run lacks of a kit's result, in one step; return in one line what that was.

    A result that is not finished is taken as far as it is.

    Raises:
        LoadError: the content of ``path`` is damaged.
        UsageError: it is of another target, teacher or pool than the run, or of another device than the run's rows.
    """
    result = _read(content, path)
    provenance = {**result.device, **result.kit.asked, **of_target(context.target)}
    changed = _mismatch(context, result.kit) or differences(provenance, expected_provenance(context))
    if changed:
        raise UsageError(f"{path} does not fit this run: {changed}; give the result of a kit that this run wrote")
    forget_estimates(context)
    expected = Expected(context, path)
    before = context.store.count(LatencyRecord.kind), context.store.count(NetworkLatencyRecord.kind)
    with context.store.transaction():
        for key, reason in result.kit.unfit.items():
            refuse(context.store, key, reason)
        for group in result.kit.groups:
            if group.name in result.groups:
                expected.check(group, result.groups[group.name])
                _Taker(context, path, provenance).take(group, result.groups[group.name])
    rows = context.store.count(LatencyRecord.kind) - before[0]
    networks = context.store.count(NetworkLatencyRecord.kind) - before[1]
    left = len(result.kit.groups) - len(result.groups)
    note = f"{rows} rows and {networks} whole networks of {path} added, measured on {result.device.get('device')}"
    return note + (f"; {left} of its {len(result.kit.groups)} groups are not measured yet" if left else "")


class _Taker:
    """Turns the samples of one result into records."""

    def __init__(self, context: Context, path: Path, provenance: dict[str, str]) -> None:
        self._context, self._path, self._provenance = context, path, provenance

    def take(self, group: GroupPlan, measured: Measured) -> None:
        """Add what follows from a group, unless the run has it."""
        store = self._context.store
        timings = self._timings(group, measured)
        whole = timings[0]
        assert whole is not None, "checked when it was read"
        if store.get(NetworkLatencyRecord, "teacher") is None:
            own = NetworkLatencyRecord(selection={}, timing=whole, teacher=whole, provenance=self._provenance)
            store.put("teacher", own)
        for row in group.rows:
            known = store.get(LatencyRecord, row.key)
            if known is None or known.between:
                self._row(row, timings, measured, whole)
        for choice, timing in zip(group.selections, timings[1:], strict=False):
            key = network_key(choice)
            if timing is not None and store.get(NetworkLatencyRecord, key) is None:
                record = NetworkLatencyRecord(
                    selection=choice, timing=timing, teacher=whole, provenance=self._provenance
                )
                store.put(key, record)

    def _row(self, row: RowPlan, timings: list[Timing | None], measured: Measured, whole: Timing) -> None:
        """Add a row, or mark its operation as unfit where it cannot be run there."""
        store = self._context.store
        for index, _ in row.weights:
            if index in measured.errors:
                if row.plus:
                    refuse(store, row.key, measured.errors[index])
                return  # without the block's own row, the others of its site are missing too
        teacher, plus = store.get(NetworkLatencyRecord, "teacher"), store.get(LatencyRecord, row.plus)
        assert teacher is not None, "put before"
        if row.plus and plus is None:
            return
        known = {index: timing for index, timing in enumerate(timings) if timing is not None}
        plus_ms = plus.timing.ms if plus is not None else None
        timing = row_timing(row.weights, known, whole, teacher.timing.ms, plus_ms)
        record = LatencyRecord(
            operation=row.operation,
            input=row.input,
            output=row.output,
            target=self._context.target.fingerprint,
            timing=timing,
            provenance=self._provenance,
        )
        store.put(row.key, record)

    def _timings(self, group: GroupPlan, measured: Measured) -> list[Timing | None]:
        """Return the timing of each network, None for one that cannot be run there.

        Raises:
            LoadError: the samples are not those of the group's networks.
        """
        protocol = self._context.target.protocol
        timed = [samples for samples in measured.samples if samples]
        fits = len(measured.samples) == len(group.networks) and len(timed) == len(measured.converged)
        if not (fits and measured.samples[0] and len({len(samples) for samples in timed}) == 1):
            raise LoadError(f"{self._path} is damaged: group {group.name} has other samples than networks; {_HINT}")
        converged = iter(measured.converged)
        return [
            summarise(samples, next(converged), protocol.confidence, protocol.trim) if samples else None
            for samples in measured.samples
        ]


def _mismatch(context: Context, kit: Manifest) -> str:
    """Return how the kit differs from what the run is about; empty if it does not."""
    target, changes = context.target, []
    if kit.target.fingerprint != target.fingerprint:
        theirs, ours = (f"{one.name!r} ({one.fingerprint})" for one in (kit.target, target))
        changes.append(f"target {theirs} is not {ours}")
    weights, _, structure = kit.teacher.partition("-")
    if weights != weights_digest(context.model) or structure not in ("", context.teacher.structure):
        changes.append("its model (weights or structure) is another one")
    shapes = tuple("x".join(map(str, tensor.shape[1:])) for tensor in context.example_inputs)
    if kit.inputs != shapes:
        changes.append(f"input shape {' and '.join(kit.inputs)} is not {' and '.join(shapes)}")
    pool = {spec.name for spec in context.pool}
    if set(kit.pool) != pool:
        other = ", ".join(sorted(set(kit.pool) ^ pool)[:3])
        changes.append(f"its pool of {len(kit.pool)} operations differs from the run's {len(pool)}, in {other}")
    return "; ".join(changes)


def _read(content: bytes, path: Path) -> KitResult:
    result = parse_model(content, KitResult, f"{path} is no result of a kit", _HINT)
    strange = sorted(set(result.groups) - {group.name for group in result.kit.groups})
    if strange:
        raise LoadError(f"{path} is damaged: it measures group {strange[0]!r}, which its kit does not have; {_HINT}")
    if result.digest != digest(result.kit.model_dump(mode="json")):
        raise LoadError(f"{path} is damaged: its manifest is not that of kit {result.digest}; {_HINT}")
    return result
