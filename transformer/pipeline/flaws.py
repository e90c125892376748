"""What is wrong with a run whose records do not fit each other: it was damaged, or put together by somebody else.

Asked only when a command has failed without a reason of its own, so that a damaged run is not told as a bug of hant. In
a run that hant alone has written, records of earlier options may stand beside newer ones; those are no flaw by
themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...passes.candidates.records import OperationRecord
from ...passes.latency.records import LatencyRecord
from ..contracts.record import Record
from ..errors import HantError
from ..plugins import load_plugin, registered
from ..runs.records import NamedRecord
from ..runs.store import RunStore

_LARGEST = 1e15
_KEYED = ("operation", "candidate", "score", "training")
"""Kinds whose key is ``block/operation`` of the record."""
_CHOICES = ("selection", "winner", "student", "evaluation", "finalist", "search")
"""Kinds with a field ``choice`` of block -> operation, which is never empty."""


def flaw_of(store: RunStore) -> str:
    """Return the first thing in the records of the run that cannot be; empty if all fits."""
    try:
        return next((flaw for name in store.students() for flaw in _flaws(_as_made(store.of(name)))), "")
    except HantError as error:
        return str(error)


def _flaws(store: RunStore) -> Iterator[str]:
    for name in registered("hant.passes"):
        load_plugin("hant.passes", name)  # and with it the kinds of its records
    kinds = {kind.kind: kind for kind in _kinds(Record) if "kind" in vars(kind)}
    for name in sorted(store.kinds() & set(kinds)):
        store.all(kinds[name])  # each is readable by itself
        for key, payload in store.payloads(name).items():
            record = json.loads(payload)
            yield from (f"record {name} {key}: {what}" for what in _numbers(record))
            if name in _KEYED and key != f"{record['block']}/{record['operation']}":
                yield f"record {name} {key} says that it is of {record['block']}/{record['operation']}"
    yield from _choices(store)
    yield from _missing(store)


def _as_made(store: RunStore) -> RunStore:
    """Return the run as a student has it on the target that it was made for last."""
    named = store.get(NamedRecord, NamedRecord.kind)
    return store.on(named.table) if named is not None and named.table else store


def _kinds(kind: type[Record]) -> Iterator[type[Record]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _kinds(inner)


def _numbers(value: Any, name: str = "") -> Iterator[str]:
    """Yield each number that no stage writes, with its place."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        negative = isinstance(value, int) and value < 0
        nothing = value == 0 and name.rpartition(".")[2] in ("samples", "teacher_ms")
        if negative or nothing or not abs(value) <= _LARGEST:
            yield f"{name} is {value:.12g}"


def _choices(store: RunStore) -> Iterator[str]:
    """Yield what is chosen and was never listed."""
    listed = store.all(OperationRecord).values()
    fitting = {(record.block, record.operation) for record in listed if record.fits} | {
        (record.block, "teacher") for record in listed
    }
    blocks = {record.block for record in listed}
    for kind in _CHOICES:
        for key, payload in store.payloads(kind).items():
            choice: Mapping[str, str] = json.loads(payload)["choice"]
            strange = sorted(pair for pair in choice.items() if pair not in fitting)
            if strange:
                yield f"record {kind} {key} chooses {strange[0][1]} for {strange[0][0]}, which does not fit there"
            if set(choice) != blocks:
                yield f"record {kind} {key} chooses for {len(choice)} blocks, and the run has {len(blocks)}"


def _missing(store: RunStore) -> Iterator[str]:
    """Yield records that others name, or that go with others, and that are not there."""
    rows = store.all(LatencyRecord)
    for key, record in store.all(OperationRecord).items():
        if rows and record.fits and record.latency_key not in rows:
            yield f"there is no latency {record.latency_key} of {key}"
    scores = store.payloads("score")
    for key, payload in store.payloads("candidate").items():
        if scores and json.loads(payload)["state"] == "ready" and key not in scores:
            yield f"there is no score of {key}"
    networks = store.payloads("network_latency")
    if rows and "teacher" not in networks:
        yield "there is no latency of the whole teacher"
    for payload in store.payloads("calibration").values():
        yield from (
            f"there is no network_latency {key}" for key in json.loads(payload)["networks"] if key not in networks
        )
    selections = {json.loads(payload)["index"] for payload in store.payloads("selection").values()}
    for kind in ("rank", "winner"):
        for key, payload in store.payloads(kind).items():
            if json.loads(payload)["index"] not in selections:
                yield f"record {kind} {key} is of a selection that is not there"
