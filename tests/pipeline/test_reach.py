from __future__ import annotations

import pytest
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.predict import network_key
from hant.passes.latency.reach import reach
from hant.passes.latency.records import LatencyModelRecord, LatencyRecord, NetworkLatencyRecord
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import InfeasibleError


def timing(ms: float) -> Timing:
    return Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms)


@pytest.fixture
def profiled(context: Context) -> Context:
    """Two blocks of 4 ms, each may run in 1 ms; an operation that does not fit would be faster still."""
    for key, ms in {"teacher": 4.0, "fast": 1.0, "unfit": 0.1}.items():
        record = LatencyRecord(operation=key, input="", output="", target="t", timing=timing(ms), provenance={})
        context.store.put(key, record)
        for block in ("a", "b"):
            listed = OperationRecord(block=block, operation=key, fits=key != "unfit", latency_key=key)
            context.store.put(f"{block}/{key}", listed)
    whole = NetworkLatencyRecord(selection={}, timing=timing(10.0), teacher=timing(10.0), provenance={})
    context.store.put("teacher", whole)
    return context


def test_the_range_is_that_of_the_fastest_operations_that_fit(profiled: Context) -> None:
    found = reach(profiled)
    assert found is not None
    assert str(found) == "reachable on cpu-ort: 4 .. 10 ms predicted, 0.400 .. 1 of the teacher"


def test_the_slope_of_measured_networks_counts(profiled: Context) -> None:
    profiled.store.put("model", LatencyModelRecord(fixed_ms=6.0, slope=0.5, teacher_ms=10.0, networks=2))
    found = reach(profiled)
    assert found is not None
    assert found.least_ms == pytest.approx(10.0 - 0.5 * 6.0)


def measured(context: Context, ms: float, **selection: str) -> None:
    record = NetworkLatencyRecord(selection=selection, timing=timing(ms), teacher=timing(5.0), provenance={})
    context.store.put(network_key(selection), record)


@pytest.mark.parametrize(("ms", "least"), [(1.5, 3.0), (4.5, 4.0)])
def test_a_measured_network_that_is_faster_than_the_prediction_counts(
    profiled: Context, ms: float, least: float
) -> None:
    measured(profiled, ms, a="fast")
    measured(profiled, 0.5, a="unfit")
    found = reach(profiled)
    assert found is not None
    assert (found.least_ms, found.measured) == (least, least == 3.0)


def test_where_the_fastest_by_the_table_is_not_the_fastest_was_measured_too(profiled: Context) -> None:
    measured(profiled, 5.5, a="fast", b="fast")
    measured(profiled, 2.25, a="fast")
    assert str(reach(profiled)) == "reachable on cpu-ort: 4.5 .. 10 ms measured, 0.450 .. 1 of the teacher"


@pytest.mark.parametrize(
    ("budget", "answer"),
    [
        ("0.5", "budget 0.5 is 5 ms and within reach"),
        ("6ms", "budget 6ms is 6 ms and within reach"),
        ("0.35", "budget 0.35 is 3.5 ms, at the edge of what can be reached; measuring will tell"),
    ],
)
def test_a_budget_in_reach(profiled: Context, budget: str, answer: str) -> None:
    found = reach(profiled)
    assert found is not None
    assert found.check(Budget.parse(budget)) == answer


def test_a_budget_far_out_of_reach_names_the_least(profiled: Context) -> None:
    found = reach(profiled)
    assert found is not None
    with pytest.raises(InfeasibleError, match=r"budget 0.1 cannot be met on .* is 4 ms, 0.400 of") as caught:
        found.check(Budget.parse("0.1"))
    assert caught.value.least == {"ms": 4.0, "ratio": 0.4}
    assert caught.value.exit_code == 3


def test_without_a_table_there_is_no_answer(context: Context) -> None:
    assert reach(context) is None
