"""What the lookup table says that operations take."""

from __future__ import annotations

from .records import CalibrationRecord, LatencyRecord
from .store import RunStore


def operation_ms(store: RunStore) -> dict[str, float]:
    """Return the time (ms) of every row by its key, as whole networks have put it right."""
    calibration = store.get(CalibrationRecord, "calibration")
    added = {} if calibration is None else calibration.added
    return {key: row.timing.ms + added.get(key, 0.0) for key, row in store.all(LatencyRecord).items()}
