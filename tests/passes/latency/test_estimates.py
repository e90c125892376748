"""Estimates for an absent target: marked, complete, never mixed with measurements, and gone once there are some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.estimates import estimating_bench, forget_estimates, forget_outdated_estimates, is_estimated
from hant.passes.latency.measure import assembled, measure_network
from hant.passes.latency.plan import plan
from hant.passes.latency.predict import predict
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.workbench import network_inputs
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.backend import Runner
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UnverifiedError, UsageError
from hant.transformer.runs.records import NamedRecord
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]
QUICK = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
ABSENT = load_target("v100-torch").model_copy(update={"batch_size": 4})
WINNER = WinnerRecord(index=0, choice={}, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=1)


@pytest.fixture
def present(make_context: MakeContext, tmp_path: Path) -> Iterator[Context]:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, "teacher,identity,cb_res_3x3")
        yield replace(context, target=context.target.model_copy(update={"protocol": QUICK}))


@pytest.fixture
def absent(present: Context) -> Context:
    """Candidates listed for a GPU that is not here."""
    context = replace(present, target=ABSENT, backend=PyTorchBackend())
    if context.backend.unavailable(ABSENT) is None:
        pytest.skip("the absent device is here")
    CandidatesPass().run(context)
    return context


def estimated(context: Context) -> Context:
    with pytest.raises(UnverifiedError):
        ProfilePass().run(context)
    return context


def test_the_table_is_filled_and_every_row_says_that_it_is_an_estimate(absent: Context) -> None:
    message = r"^all latencies are estimated, the teacher's at .* ms: target v100-torch cannot be run here: "
    with pytest.raises(UnverifiedError, match=message):
        ProfilePass().run(absent)
    rows = absent.store.all(LatencyRecord)
    for record in absent.store.all(OperationRecord).values():
        assert (record.latency_key in rows) == record.fits
    assert all(row.timing.estimated for row in rows.values())
    assert {row.provenance["device"] for row in rows.values()} == {"V100, absent"}
    teacher = absent.store.get(NetworkLatencyRecord, "teacher")
    assert teacher is not None
    assert teacher.timing.estimated
    assert teacher.timing.ms > 0
    assert is_estimated(absent)


def test_the_table_adds_up_to_the_estimate_of_a_whole_network(absent: Context) -> None:
    """Rows are estimated between neighbours, so that what is saved is what the whole network saves."""
    choice = {"one": "cb_res_3x3", "three": "identity"}
    record = measure_network(estimated(absent), choice)
    assert record.timing.estimated
    assert record.timing.ms == pytest.approx(predict(absent.store, choice))
    bench = estimating_bench(absent)
    assert bench is not None
    whole, alone = bench.time(
        [
            runner
            for runner in bench.lower([assembled(absent, choice)], [network_inputs(absent)])
            if isinstance(runner, Runner)
        ],
        [],
    )
    assert record.teacher.ms == whole.ms
    assert record.timing.ms == pytest.approx(alone.ms, rel=0.05)


def test_estimating_again_does_nothing_and_a_kit_would_measure_all(absent: Context) -> None:
    rows = estimated(absent).store.count("latency")
    before = absent.store.events("put")
    estimated(absent)
    new = absent.store.events("put")[len(before) :]
    assert "latency" not in {put["kind"] for _, put in new}
    assert plan(absent).missing == rows
    assert plan(absent, estimates_count=True).missing == 0


def test_measurements_take_the_place_of_estimates_and_of_what_was_chosen_by_them(present: Context) -> None:
    CandidatesPass().run(present)
    ProfilePass().run(present)
    store = present.store
    for key, row in store.all(LatencyRecord).items():
        store.put(key, row.model_copy(update={"timing": row.timing.model_copy(update={"estimated": True, "ms": 7.0})}))
    store.put("winner", WINNER)
    ProfilePass().run(present)
    assert not any(row.timing.estimated for row in store.all(LatencyRecord).values())
    assert store.count("winner") == 0


def test_estimates_are_forgotten_for_every_student_on_the_target(absent: Context) -> None:
    store = estimated(absent).store
    small, elsewhere = store.of("small"), store.of("elsewhere").on("another")
    for student in (store, small, elsewhere):
        student.put("winner", WINNER)
        student.put("named", NamedRecord(table=student.table))
    assert forget_estimates(absent) > 0
    assert [student.count("winner") for student in (store, small, elsewhere)] == [0, 0, 1]


def test_what_was_chosen_by_measurements_stays(present: Context) -> None:
    CandidatesPass().run(present)
    ProfilePass().run(present)
    present.store.put("winner", WINNER)
    assert forget_estimates(present) == 0
    assert present.store.count("winner") == 1


def test_estimates_follow_corrected_facts(absent: Context) -> None:
    facts = absent.target.facts
    first = estimated(absent).store.get(NetworkLatencyRecord, "teacher")
    absent.store.put("winner", WINNER)
    estimated(absent)
    assert absent.store.get(WinnerRecord, "winner") == WINNER  # nothing has changed
    # The network is small: its kernels are launched longer than they run, unless the device is very slow.
    slow = {name: value / 4000 if isinstance(value, float) else value for name, value in facts.items()}
    corrected = replace(absent, target=absent.target.model_copy(update={"facts": slow}))
    second = estimated(corrected).store.get(NetworkLatencyRecord, "teacher")
    assert first is not None
    assert second is not None
    assert second.timing.ms > 1.5 * first.timing.ms
    assert absent.store.get(WinnerRecord, "winner") is None
    # A run of an earlier version does not say from which facts; there the estimate itself is compared.
    old = second.model_copy(update={"provenance": {k: v for k, v in second.provenance.items() if k != "facts"}})
    absent.store.put("teacher", old)
    assert forget_outdated_estimates(corrected) == 0
    assert forget_outdated_estimates(absent) > 0


def test_estimates_are_not_mixed_with_measurements(absent: Context) -> None:
    store = estimated(absent).store
    key, row = next(iter(store.all(LatencyRecord).items()))
    forget_estimates(absent)
    store.put(key, row.model_copy(update={"timing": row.timing.model_copy(update={"estimated": False})}))
    assert estimating_bench(absent) is None
    with pytest.raises(UsageError, match=r"latencies are missing.*\(estimates are not mixed with what was measured\)"):
        ProfilePass().run(absent)


def test_a_runtime_without_a_cost_model_says_so(present: Context) -> None:
    half = replace(present, target=present.target.model_copy(update={"precision": "fp16"}))
    CandidatesPass().run(half)
    with pytest.raises(UsageError, match=r"the backend onnxruntime has no cost model\): measure it on the device"):
        ProfilePass().run(half)
