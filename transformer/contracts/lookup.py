"""What the lookup table says that operations take."""

from __future__ import annotations

from collections import defaultdict

from .records import CalibrationRecord, CandidateRecord, LatencyRecord, SlowerRecord
from .store import RunStore


def operation_ms(store: RunStore) -> dict[str, float]:
    """Return the time (ms) of every row by its key, as whole networks have put it right; none is below zero.

    What an operation saves is the difference to the own block's row, and is measured in place. The own block's row
    itself is not, where the block cannot be taken out: it may be less than what the fastest operation saves. Then all
    rows of one input and output rise together.
    """
    calibration = store.get(CalibrationRecord, "calibration")
    added = {} if calibration is None else calibration.added
    rows = store.all(LatencyRecord)
    ms = {key: row.timing.ms + added.get(key, 0.0) for key, row in rows.items()}
    places = {key: (row.target, key.rpartition("/")[2]) for key, row in rows.items()}
    below: dict[tuple[str, str], float] = defaultdict(float)
    for key, place in places.items():
        below[place] = min(below[place], ms[key])
    return {key: ms[key] - below[place] for key, place in places.items()}


def slower(store: RunStore) -> set[str]:
    """Return the keys (``block/operation``) of what is slower on the run's target than the block's own operation."""
    return {*store.all(SlowerRecord), *(key for key, old in store.all(CandidateRecord).items() if by_latency(old))}


def by_latency(record: CandidateRecord) -> bool:
    """Return whether the record only says that the operation is slower, as in runs of earlier versions."""
    return record.state == "dropped" and not record.recipe
