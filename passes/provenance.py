"""What a latency depends on: numbers of different devices or runtimes are never mixed."""

from __future__ import annotations

from collections.abc import Mapping

from ..transformer.contracts.context import Context
from ..transformer.contracts.records import LatencyModelRecord, LatencyRecord, NetworkLatencyRecord
from ..transformer.contracts.store import RunStore
from ..transformer.errors import UsageError


def here(context: Context) -> dict[str, str]:
    """Return what a latency measured now depends on, the target included."""
    return {**context.backend.provenance(context.target), **_of_target(context)}


def expected_provenance(context: Context) -> dict[str, str]:
    """Return what the table's rows have to agree with: this device, or the target alone where it cannot be run here."""
    return here(context) if context.backend.unavailable(context.target) is None else _of_target(context)


def check_provenance(store: RunStore, fingerprint: str, provenance: Mapping[str, str]) -> None:
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
    if teacher is not None and differences(teacher.provenance, provenance):
        with store.transaction():
            store.delete(NetworkLatencyRecord)
            store.delete(LatencyModelRecord)


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Return how ``theirs`` differs in what ``ours`` asks for, ``device 'a' is not 'b'``; empty if it agrees."""
    changed = [name for name in sorted(ours) if theirs.get(name) != ours[name]]
    return ", ".join(f"{name} {theirs.get(name, 'unknown')!r} is not {ours[name]!r}" for name in changed)


def _of_target(context: Context) -> dict[str, str]:
    target = context.target
    return {"precision": target.precision, "batch_size": str(target.batch_size), "target": target.fingerprint}
