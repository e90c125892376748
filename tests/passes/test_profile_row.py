from __future__ import annotations

from pathlib import Path

import pytest
from hant import RunStore
from hant.passes.profile_row import lift
from hant.transformer.contracts.records import LatencyRecord
from hant.transformer.contracts.timing import Timing


def row(operation: str, place: str, ms: float) -> tuple[str, LatencyRecord]:
    source, _, end = place.partition("->")
    timing = Timing(ms=ms, low=ms - 0.1, high=ms + 0.1, trimmed_mean=ms, samples=(ms, ms + 0.2))
    record = LatencyRecord(operation=operation, input=source, output=end, target="T", timing=timing, provenance={})
    return f"T/{operation}/{place}", record


def test_rows_of_a_site_rise_together_until_none_is_below_zero(tmp_path: Path) -> None:
    rows = dict(
        row(operation, place, ms)
        for place, times in {"8x4x4->8x2x2": (0.5, -0.3, 0.2), "8x4x4->8x4x4": (0.5, 0.0, 0.2)}.items()
        for operation, ms in zip(("teacher:ab", "cb_res_1x1", "cb_res_3x3"), times, strict=True)
    )
    with RunStore(tmp_path) as store:
        for key, record in rows.items():
            store.put(key, record)
        lift(store)
        lifted = store.all(LatencyRecord)
        lift(store)
        assert store.all(LatencyRecord) == lifted
    by = {key: lifted[key].timing.ms - record.timing.ms for key, record in rows.items()}
    assert by == pytest.approx({key: 0.3 if key.endswith("2x2") else 0.0 for key in rows})
    shrunk = lifted["T/cb_res_1x1/8x4x4->8x2x2"].timing
    assert (shrunk.ms, shrunk.low, shrunk.high, *shrunk.samples) == pytest.approx((0.0, -0.1, 0.1, 0.0, 0.2))
