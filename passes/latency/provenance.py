"""What a latency depends on: numbers of different devices or runtimes are never mixed."""

from __future__ import annotations

from collections.abc import Mapping

from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store
from ...transformer.contracts.target import Target
from .records import LatencyRecord, NetworkLatencyRecord


def here(context: Context) -> dict[str, str]:
    """Return what a latency measured now depends on, the target included."""
    return {**context.backend.provenance(context.target), **of_target(context.target)}


def expected_provenance(context: Context) -> dict[str, str]:
    """Return what latencies from a file have to agree with: the run's own, or the target alone where it has none."""
    return {**_of_table(context.store, context.target.fingerprint), **of_target(context.target)}


def absence(context: Context) -> str | None:
    """Return why this run's latencies cannot be measured on this machine; None if they can.

    The target may not run here, or the run's lookup table may be of another device: one run is about one device.
    """
    target = context.target
    reason = context.backend.unavailable(target)
    if reason is not None:
        return f"target {target.name} cannot be run here: {reason}"
    theirs = _of_table(context.store, target.fingerprint)
    changed = differences(theirs, here(context)) if theirs else ""
    return f"the run's latencies were measured elsewhere: {changed}" if changed else None


def what_instead(context: Context) -> str:
    """Return what to do where ``absence`` gives a reason."""
    if context.backend.unavailable(context.target) is None:
        return "go on there, or give another --output to measure here"
    return f"measure it on the device with a kit: hant-opt profile {context.store.address} --kit kit.zip"


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Return how ``theirs`` differs in what ``ours`` asks for, ``device 'a' is not 'b'``; empty if it agrees."""
    changed = [name for name in sorted(ours) if theirs.get(name) != ours[name]]
    return ", ".join(f"{name} {theirs.get(name, 'unknown')!r} is not {ours[name]!r}" for name in changed)


def of_target(target: Target) -> dict[str, str]:
    """Return the part of a provenance that every backend's latencies have."""
    return {"precision": target.precision, "batch_size": str(target.batch_size), "target": target.fingerprint}


def _of_table(store: Store, fingerprint: str) -> dict[str, str]:
    """Return what the measured latencies on this target depend on; empty where there are none, or they do not say."""
    teacher = store.get(NetworkLatencyRecord, "teacher")
    if teacher is not None and teacher.provenance.get("target") == fingerprint and not teacher.timing.estimated:
        return teacher.provenance
    rows = [row for row in store.all(LatencyRecord).values() if not row.timing.estimated]
    return next((row.provenance for row in rows if row.target == fingerprint), {})
