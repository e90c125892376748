"""From the table's sum to the whole network's latency: planted tables, and one real measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hant.backends.measuring.statistics import summarise
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.measure import measure_network
from hant.passes.latency.predict import limit_for, network_key, predict, refit, split_up, surprise
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.table import table_sum
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]
MS = {"teacher": 1.0, "identity": 0.0, "fast": 0.25}
BLOCKS = ("a", "b", "c", "d")
TEACHER_MS = 6.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A table of four equal blocks, and a teacher that takes 2 ms more than their sum."""
    with RunStore(tmp_path / "run") as found:
        for name, ms in MS.items():
            timing = summarise([ms], True)
            row = LatencyRecord(operation=name, input="", output="", target="t", timing=timing, provenance={})
            found.put(name, row)
            for block in BLOCKS:
                found.put(f"{block}/{name}", OperationRecord(block=block, operation=name, fits=True, latency_key=name))
        found.put("teacher", network({}, TEACHER_MS))
        yield found


def network(selection: dict[str, str], ms: float, teacher: float = TEACHER_MS) -> NetworkLatencyRecord:
    return NetworkLatencyRecord(
        selection=selection, timing=summarise([ms] * 5, True), teacher=summarise([teacher] * 5, True), provenance={}
    )


@pytest.mark.parametrize("busy", [1.0, 1.5])
def test_a_busy_machine_is_no_surprise(store: RunStore, busy: float) -> None:
    """What counts is the teacher timed beside, not the one that the model was fitted on."""
    refit(store)
    expected = predict(store, {"a": "fast"})
    assert surprise(store, network({"a": "fast"}, expected * busy, TEACHER_MS * busy)) == pytest.approx(1)
    assert surprise(store, network({"a": "fast"}, expected * busy * 1.1, TEACHER_MS * busy)) == pytest.approx(1.1)


def test_the_teacher_is_predicted_exactly(store: RunStore) -> None:
    refit(store)
    assert predict(store, {}) == predict(store, dict.fromkeys(BLOCKS, "teacher")) == pytest.approx(TEACHER_MS)
    assert predict(store, {"a": "fast"}) == pytest.approx(TEACHER_MS - 0.75)


@pytest.mark.parametrize("teacher_ms", [3.0, 6.0, 9.0])
@pytest.mark.parametrize(("table_teacher", "rest"), [(6.0, True), (3.0, False)])
def test_blocks_and_rest_add_up_to_the_teacher_of_today(
    store: RunStore, teacher_ms: float, table_teacher: float, rest: bool
) -> None:
    """The blocks alone are 4 ms of the table; where that is more than the teacher, they are scaled down to it."""
    store.put("teacher", network({}, table_teacher, table_teacher))
    refit(store)
    choice = {"a": "fast", "b": "identity"}
    ratio = predict(store, choice) / table_teacher
    scale, outside, beyond = split_up(store, choice, teacher_ms, ratio)
    assert scale * table_sum(store, {}) + outside == pytest.approx(teacher_ms)
    assert scale * table_sum(store, choice) + beyond == pytest.approx(ratio * teacher_ms)
    assert scale * table_sum(store, {}) <= teacher_ms * (1 + 1e-9)
    assert (outside > 1e-6) is rest


@pytest.mark.parametrize("slope", [0.8, 1.0, 1.2])
def test_measured_networks_teach_the_slope(store: RunStore, slope: float) -> None:
    selections = [dict(zip(BLOCKS, choice, strict=True)) for choice in product(MS, repeat=len(BLOCKS))]
    for selection in selections:
        if set(selection.values()) != {"teacher"}:
            ms = TEACHER_MS - slope * (4.0 - table_sum(store, selection))
            store.put(network_key(selection), network(selection, ms))
    model = refit(store, selections)
    assert model.slope == pytest.approx(slope, abs=0.01)
    assert model.networks == len(MS) ** len(BLOCKS)
    assert predict(store, {}) == pytest.approx(TEACHER_MS)


def test_one_measured_network_pulls_the_prediction_its_way_but_not_all_the_way(store: RunStore) -> None:
    selection = dict.fromkeys(BLOCKS, "fast")
    before = predict(store, selection)
    store.put(network_key(selection), network(selection, before + 0.5))
    refit(store, [selection])
    assert before < predict(store, selection) < before + 0.5
    assert predict(store, selection) > before + 0.35


def test_a_slow_moment_of_the_machine_does_not_count(store: RunStore) -> None:
    selection = dict.fromkeys(BLOCKS, "fast")
    ms = predict(store, selection)
    store.put(network_key(selection), network(selection, 3 * ms, teacher=3 * TEACHER_MS))
    assert refit(store, [selection]).slope == pytest.approx(1.0)


def test_networks_measured_for_another_purpose_do_not_count(store: RunStore) -> None:
    before = refit(store)
    other = {BLOCKS[0]: "fast"}
    store.put(network_key(other), network(other, 0.5 * TEACHER_MS))
    assert refit(store) == before
    assert refit(store, [other]) != before


def test_the_limit_is_the_budget_seen_from_the_table(store: RunStore) -> None:
    fast = dict.fromkeys(BLOCKS, "fast")
    store.put(network_key(fast), network(fast, 3.5))
    refit(store)
    for choice in product(MS, repeat=len(BLOCKS)):
        selection = dict(zip(BLOCKS, choice, strict=True))
        for budget in (2.0, 3.0, 4.5):
            inside = table_sum(store, selection) <= limit_for(store, budget)
            assert inside == (predict(store, selection) <= budget)


def test_a_network_is_known_by_what_was_replaced() -> None:
    assert network_key({}) == network_key({"a": "teacher"}) == "teacher"
    assert network_key({"a": "x", "b": "teacher"}) == network_key({"a": "x"})
    assert network_key({"a": "x", "b": "y"}) == network_key({"b": "y", "a": "x"})
    assert network_key({"a": "x"}) != network_key({"b": "x"})


def test_what_is_not_in_the_table_is_named(store: RunStore) -> None:
    with pytest.raises(UsageError, match="no latency of slow in block a; run the profile stage with it in the pool"):
        predict(store, {"a": "slow"})


def test_a_run_without_a_table_says_what_to_run(tmp_path: Path) -> None:
    with RunStore(tmp_path / "empty") as empty, pytest.raises(UsageError, match="run the profile stage first"):
        refit(empty)


def test_whole_networks_are_measured_once(make_context: MakeContext, tmp_path: Path) -> None:
    quick = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, "teacher,identity,cb_res_3x3")
        context = replace(context, target=context.target.model_copy(update={"protocol": quick}))
        CandidatesPass().run(context)
        ProfilePass().run(context)
        choice = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}
        first = measure_network(context, choice)
        assert first.selection == choice
        assert len(first.timing.samples) == len(first.teacher.samples) == 3
        assert measure_network(context, {"two": "cb_res_3x3", "one": "identity"}) == first
        assert measure_network(context, {}) == store.get(NetworkLatencyRecord, "teacher")
        refit(store)
        every = product(("teacher", "identity", "cb_res_3x3"), repeat=3)
        listed = (dict(zip(("one", "two", "three"), operations, strict=True)) for operations in every)
        new = next(c for c in listed if c["two"] != "identity" and not store.get(NetworkLatencyRecord, network_key(c)))
        assert measure_network(context, new).predicted_ms == pytest.approx(predict(store, new))
