from __future__ import annotations

from pathlib import Path

import pytest
from hant.passes.latency.records import CalibrationRecord, LatencyRecord
from hant.passes.latency.table import operation_ms
from hant.transformer.contracts.timing import Timing
from hant.transformer.runs.store import RunStore

OPERATIONS = ("teacher:ab", "cb_res_1x1", "cb_res_3x3")


def row(operation: str, place: str, ms: float, doubt: float = 0.0) -> tuple[str, LatencyRecord]:
    source, _, end = place.partition("->")
    timing = Timing(ms=ms, low=ms - doubt, high=ms + doubt, trimmed_mean=ms)
    record = LatencyRecord(operation=operation, input=source, output=end, target="T", timing=timing, provenance={})
    return f"T/{operation}/{place}", record


def test_rows_of_a_place_rise_together_until_none_is_below_zero(tmp_path: Path) -> None:
    planted = {"8x4x4->8x2x2": (0.5, -0.3, 0.2), "8x4x4->8x4x4": (0.5, 0.0, 0.2)}
    with RunStore(tmp_path) as store:
        for place, times in planted.items():
            for operation, ms in zip(OPERATIONS, times, strict=True):
                store.put(*row(operation, place, ms))
        found = operation_ms(store)
        assert found == pytest.approx(
            {
                f"T/{operation}/{place}": ms + (0.3 if place.endswith("2x2") else 0.0)
                for place, times in planted.items()
                for operation, ms in zip(OPERATIONS, times, strict=True)
            }
        )
        own = "T/teacher:ab/8x4x4->8x2x2"
        store.put("calibration", CalibrationRecord(added={own: 0.25}, networks=()))
        assert operation_ms(store) == pytest.approx(found | {own: found[own] + 0.25})


def test_noise_makes_no_operation_faster_than_nothing(tmp_path: Path) -> None:
    times = {"teacher:ab": 0.5, "identity": 0.0, "cb_res_1x1": -0.02, "cb_res_3x3": -0.02, "cb_res_5x5": 0.01}
    with RunStore(tmp_path) as store:
        for operation, ms in times.items():
            store.put(*row(operation, "8x4x4->8x4x4", ms, 0.05 if operation == "cb_res_1x1" else 0.01))
        found = {key.split("/")[1]: ms for key, ms in operation_ms(store).items()}
    assert found == pytest.approx(times | {"cb_res_1x1": 0.03, "cb_res_3x3": 0.0})
