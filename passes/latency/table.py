"""The lookup table: what it says that operations take, and sums of its rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.store import Store
from ...transformer.errors import UsageError
from ..candidates.records import OperationRecord
from ..pretraining.records import CandidateRecord
from .records import CalibrationRecord, LatencyRecord, SlowerRecord

Floats = NDArray[np.float64]


def table_sum(store: Store, choice: Mapping[str, str]) -> float:
    """Return the sum of the table's rows of a choice (ms); blocks that it leaves out stay the teacher's."""
    return float(table_sums(store, [choice])[0])


def table_sums(store: Store, choices: Sequence[Mapping[str, str]]) -> Floats:
    """Return the sums of many choices (N,), reading the table once."""
    return sums_of(store, operation_ms(store), choices)


def sums_of(store: Store, rows: Mapping[str, float], choices: Sequence[Mapping[str, str]]) -> Floats:
    """Return the sums of many choices (N,), with ``rows`` (ms by key) in place of the table's."""
    listed = store.all(OperationRecord)
    blocks = list(dict.fromkeys(record.block for record in listed.values()))
    sums = [sum(_row(listed, rows, block, choice.get(block, "teacher")) for block in blocks) for choice in choices]
    return np.array(sums)


def fastest(store: Store) -> dict[str, str]:
    """Return the choice that the table says is fastest: each block's fastest operation."""
    rows = operation_ms(store)
    return least(store, lambda record: rows.get(record.latency_key))


def least(store: Store, cost: Callable[[OperationRecord], float | None]) -> dict[str, str]:
    """Return each block's operation of the least ``cost``, of those that fit and have one; equals go by name."""
    best: dict[str, tuple[float, str]] = {}
    for record in store.all(OperationRecord).values():
        value = cost(record) if record.fits else None
        if value is not None:
            found = (value, record.operation)
            best[record.block] = min(found, best.get(record.block, found))
    return {block: name for block, (_, name) in best.items()}


def _row(listed: Mapping[str, OperationRecord], rows: Mapping[str, float], block: str, operation_name: str) -> float:
    record = listed.get(f"{block}/{operation_name}")
    if record is None or record.latency_key not in rows:
        raise UsageError(f"no latency of {operation_name} in block {block}; run the profile stage with it in the pool")
    return rows[record.latency_key]


def operation_ms(store: Store) -> dict[str, float]:
    """Return the time (ms) of every row by its key, as whole networks have put it right; none is below zero.

    Nothing is faster than to leave a block out: where its place has a row of ``identity``, noise alone puts another
    below it, which then takes what its interval ends at, and at least as long.

    What an operation saves is the difference to the own block's row, and is measured in place. The own block's row
    itself is not, where the block cannot be taken out: it may be less than what the fastest operation saves. Then all
    rows of one input and output rise together.
    """
    calibration = store.get(CalibrationRecord, "calibration")
    added = {} if calibration is None else calibration.added
    rows = store.all(LatencyRecord)
    places = {key: (row.target, key.rpartition("/")[2]) for key, row in rows.items()}
    nothing = {places[key]: row.timing.ms for key, row in rows.items() if row.operation == "identity"}
    ms = {}
    for key, row in rows.items():
        least = nothing.get(places[key], -math.inf)
        ms[key] = (row.timing.ms if row.timing.ms >= least else max(row.timing.high, least)) + added.get(key, 0.0)
    below: dict[tuple[str, str], float] = defaultdict(float)
    for key, place in places.items():
        below[place] = min(below[place], ms[key])
    return {key: ms[key] - below[place] for key, place in places.items()}


def slower(store: Store) -> set[str]:
    """Return the keys (``block/operation``) of what is slower on the run's target than the block's own operation."""
    return {*store.all(SlowerRecord), *(key for key, old in store.all(CandidateRecord).items() if by_latency(old))}


def by_latency(record: CandidateRecord) -> bool:
    """Return whether the record only says that the operation is slower, as in runs of earlier versions."""
    return record.state == "dropped" and not record.recipe
