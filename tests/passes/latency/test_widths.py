"""Ladders by bisection: what is timed tells the rest, in steps and on lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.estimates import forget_estimates
from hant.passes.latency.profile import ProfilePass, drop_slower
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord, SlowerRecord
from hant.passes.latency.table import operation_ms
from hant.passes.latency.widths import filled, missing, non_dominated
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]


def bisected(widths: list[float], ms: list[float]) -> tuple[list[float], int]:
    """Return what a ladder of latencies ``ms`` is taken for, and how many of them were looked at."""
    known: list[float | None] = [None] * len(ms)
    while places := missing(widths, known):
        for place in places:
            assert known[place] is None  # nothing is timed twice
            known[place] = ms[place]
    return filled(widths, known), sum(value is not None for value in known)


def stairs(rungs: int, tread: int, fixed: float, step: float) -> list[float]:
    """Latencies of a device that computes ``tread`` widths at a time."""
    return [fixed + step * -(-(rung + 1) // tread) for rung in range(rungs)]


@pytest.mark.parametrize("tread", [1, 2, 4, 8])
def test_what_is_not_timed_is_known_within_a_few_percent(tread: int) -> None:
    random = np.random.default_rng(tread)
    for _ in range(150):
        rungs, fixed, step = int(random.integers(9, 65)), random.uniform(0, 10), random.uniform(0.05, 2)
        close(stairs(rungs, tread, fixed if random.random() < 0.8 else 0.0, step))


def close(ms: list[float]) -> None:
    """Assert that bisecting tells these latencies."""
    widths = [float(rung + 1) for rung in range(len(ms))]
    found, _ = bisected(widths, ms)
    errors = [abs(a / b - 1) for a, b in zip(found, ms, strict=True)]
    assert np.quantile(errors, 0.95) <= 0.03
    assert max(errors) <= 0.05
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(found))


@pytest.mark.parametrize(("tread", "most"), [(1, 9), (4, 48), (8, 36)])
def test_fewer_rows_are_timed_than_there_are(tread: int, most: int) -> None:
    widths = [float(rung + 1) for rung in range(64)]
    assert bisected(widths, stairs(64, tread, 2.0, 1.0))[1] <= most


def test_between_ends_that_take_as_long_nothing_is_timed() -> None:
    assert bisected([1.0, 2.0, 3.0], [1.0, 1.0, 1.01])[1] == 2


def test_a_width_off_the_steps_is_not_taken_for_worth_having() -> None:
    # ONNX Runtime with vectors of 16 channels: 16 takes 183, 18 takes 287, 32 takes 264
    widths, ms = [16.0, 18.0, 20.0, 24.0, 32.0], [183.0, 287.0, 260.0, 262.0, 264.0]
    found, _ = bisected(widths, ms)
    names = [f"{width:g}" for width in widths]
    assert non_dominated(names, found) == non_dominated(names, ms) == ("16", "32")


def test_widths_of_unequal_distance_lie_on_lines_by_their_width() -> None:
    widths = [1.0, 2.0, 3.0, 8.0, 9.0, 16.0, 30.0, 31.0, 32.0]
    ms = [2.0 * width + 1 for width in widths]
    found, timed = bisected(widths, ms)
    assert found == pytest.approx(ms)
    assert timed < len(widths)


@pytest.fixture
def context(make_context: MakeContext, search_runs: ModuleType, tmp_path: Path) -> Iterator[Context]:
    """A block with sixteen widths, on a clock that counts: a line."""
    widths = ",".join(f"cb_stack_3x3_ex{rung / 8:g}" for rung in range(1, 17))
    with RunStore(tmp_path / "run") as store:
        made = make_context(store, f"teacher,identity,cb_res_3x3,{widths}")
        first = replace(made.teacher, blocks=made.teacher.blocks[:1])
        made = replace(made, graph=first, backend=search_runs.CountingBackend())
        CandidatesPass().run(made)
        yield made


def test_bisecting_times_some_widths_and_estimates_the_others(context: Context) -> None:
    store = context.store
    ProfilePass(widths="bisect").run(context)
    rows = store.all(LatencyRecord)
    keys = {record.operation: record.latency_key for record in store.all(OperationRecord).values() if record.fits}
    assert set(keys.values()) == set(rows) == set(operation_ms(store))
    timed = {name for name, key in keys.items() if not rows[key].between}
    assert {"teacher", "identity", "cb_res_3x3", "cb_stack_3x3_ex0.125", "cb_stack_3x3_ex2.0"} < timed
    assert len(timed) <= 3 + 8
    for name in keys.keys() - timed:
        row = rows[keys[name]]
        assert row.timing.estimated
        assert row.provenance["between"].count("cb_stack_3x3_ex") == 2
    whole, bisected_ms = store.get(NetworkLatencyRecord, "teacher"), operation_ms(store)
    assert forget_estimates(context) == 0  # they are no estimates of an absent device
    assert store.get(NetworkLatencyRecord, "teacher") == whole
    before = store.payloads("latency")
    ProfilePass(widths="bisect").run(context)
    assert store.payloads("latency") == before
    ProfilePass().run(context)
    assert not any(row.between for row in store.all(LatencyRecord).values())
    assert operation_ms(store) == pytest.approx(bisected_ms)  # a line is a line


def test_a_width_that_is_no_faster_than_a_wider_one_is_not_trained(context: Context) -> None:
    store = context.store
    ProfilePass(keep_slower=True).run(context)
    key = {record.operation: record.latency_key for record in store.all(OperationRecord).values()}
    narrow = key["cb_stack_3x3_ex0.5"]
    assert drop_slower(store, keep_slower=True, no_faster={narrow: "cb_stack_3x3_ex0.625"}) == 1
    (record,) = store.all(SlowerRecord).values()
    assert record.reason == "cb_stack_3x3_ex0.625 is wider and as fast"
