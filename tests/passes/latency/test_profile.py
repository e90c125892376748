"""The lookup table, on ONNX Runtime; nothing here depends on how long anything takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from hant.backends.measuring.statistics import summarise
from hant.op_library.pools import pool
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.import_latencies import ImportPass
from hant.passes.latency.profile import ProfilePass, drop_slower
from hant.passes.latency.provenance import differences, here
from hant.passes.latency.records import LatencyModelRecord, LatencyRecord, NetworkLatencyRecord, SlowerRecord
from hant.passes.latency.rows import GLANCE
from hant.passes.latency.sites import of_block, sites
from hant.passes.latency.table import operation_ms, slower
from hant.passes.latency.table_file import export_table
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.progress import Progress, Task
from hant.transformer.contracts.store import Store
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn

MakeContext = Callable[..., Context]
QUICK = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)


SMALL = "teacher,identity,cb_res_3x3"


def listed(make_context: MakeContext, root: Path, names: str = SMALL) -> Context:
    context = make_context(RunStore(root), names)
    context = replace(context, target=context.target.model_copy(update={"protocol": QUICK}))
    CandidatesPass().run(context)
    return context


@pytest.fixture
def context(make_context: MakeContext, tmp_path: Path) -> Iterator[Context]:
    found = listed(make_context, tmp_path / "run", "teacher,identity,cb_stack_3x3_ex0.5,cb_res_3x3,efn_3x3_e3_se1.00")
    yield found
    found.store.close()


class StopAfter(Progress):
    """Interrupts the work after a number of finished units."""

    def __init__(self, units: int) -> None:
        self.units = units

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        outer = self

        class Stopping(Task):
            def advance(self, count: int = 1, note: str = "") -> None:
                outer.units -= count
                if outer.units < 0:
                    raise KeyboardInterrupt

        yield Stopping()


def measured(store: Store) -> Counter[str]:
    """How often each row of the table was written."""
    return Counter(payload["key"] for _, payload in store.events("put") if payload["kind"] == "latency")


def test_every_listed_operation_has_a_row_and_the_teacher_its_time(make_context: MakeContext, tmp_path: Path) -> None:
    context = listed(make_context, tmp_path / "run")
    ProfilePass().run(context)
    rows = context.store.all(LatencyRecord)
    for record in context.store.all(OperationRecord).values():
        assert (record.latency_key in rows) == record.fits
    assert {row.timing.ms for row in rows.values() if row.operation == "identity"} == {0.0}
    assert all(ms >= 0 for ms in operation_ms(context.store).values())
    teacher = context.store.get(NetworkLatencyRecord, "teacher")
    assert teacher is not None
    assert teacher.timing.ms > 0
    context.store.close()


def test_an_operation_that_is_much_slower_is_only_glanced_at(make_context: MakeContext, tmp_path: Path) -> None:
    context = listed(make_context, tmp_path / "run", "teacher,identity,cb_bottle_7x7_ex4.0,cb_res_1x1")
    thorough = QUICK.model_copy(update={"max_rounds": 30, "relative_width": 1e-9, "drift": 1e9})
    ProfilePass().run(replace(context, target=context.target.model_copy(update={"protocol": thorough})))
    rows = {record.operation: len(record.timing.samples) for record in context.store.all(LatencyRecord).values()}
    assert rows["cb_bottle_7x7_ex4.0"] == GLANCE < rows["cb_res_1x1"] == 30
    context.store.close()


def test_stopped_work_goes_on_and_nothing_is_measured_twice(make_context: MakeContext, tmp_path: Path) -> None:
    context = listed(make_context, tmp_path / "run")
    for units in (0, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            ProfilePass(group=2).run(replace(context, progress=StopAfter(units)))
    ProfilePass(group=2).run(context)
    ProfilePass(group=2).run(context)
    assert set(measured(context.store)) == set(context.store.all(LatencyRecord))
    assert set(measured(context.store).values()) == {1}


def test_a_larger_pool_measures_only_what_is_new(make_context: MakeContext, tmp_path: Path) -> None:
    context = listed(make_context, tmp_path / "run", "teacher,identity")
    ProfilePass().run(context)
    before = measured(context.store)
    wider = replace(context, pool=(*context.pool, *pool("cb_stack_1x1_ex1.0")))
    CandidatesPass().run(wider)
    ProfilePass().run(wider)
    new = measured(context.store) - before
    assert {context.store.all(LatencyRecord)[key].operation for key in new} == {"cb_stack_1x1_ex1.0"}


class Bessel(nn.Module):
    """ONNX has no such function."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, torch.special.bessel_j0(x))


class Fickle(nn.Module):
    """Decides on values, which shapes do not tell."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


@pytest.mark.parametrize(("module", "reason"), [(Bessel, "cannot export "), (Fickle, "cannot be built or run: ")])
def test_what_cannot_be_lowered_does_not_fit_after_all(
    make_context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: type[nn.Module], reason: str
) -> None:
    monkeypatch.setattr(type(pool("cb_res_3x3")[0]), "_build", lambda self, input, output: module())
    context = listed(make_context, tmp_path / "run")
    context = replace(context, graph=replace(context.teacher, blocks=context.teacher.blocks[:1]))
    CandidatesPass().run(context)
    ProfilePass().run(context)
    record = context.store.get(OperationRecord, "one/cb_res_3x3")
    assert record is not None
    assert not record.fits
    assert record.reason.startswith(reason)
    assert "\n" not in record.reason


def test_operations_are_timed_between_neighbours(small_graph: Graph) -> None:
    found = sites(small_graph)
    middle = of_block(found, small_graph.block("two"))
    assert middle.before is small_graph.block("one")
    assert middle.after is small_graph.block("three")
    first = of_block(found, small_graph.block("one"))
    assert first.before is None
    assert first.example(3).shape == (3, 8, 8, 8)
    window = middle.window(nn.Identity())
    assert isinstance(window, nn.Sequential)
    assert window[0] is small_graph.block("one").module


def test_blocks_of_equal_shapes_share_the_site_with_most_neighbours(small_graph: Graph) -> None:
    one = small_graph.block("one")
    graph = replace(small_graph, blocks=(replace(one, name="zero"), *small_graph.blocks))
    assert len(sites(graph)) == 3
    site = of_block(sites(graph), graph.block("zero"))
    assert site.block.name == "one"
    assert site.before is graph.block("zero")


def fill(store: Store, graph: Graph, ms: dict[str, float]) -> None:
    """Write a table in which each operation costs the same everywhere."""
    for key, record in store.all(OperationRecord).items():
        if record.fits:
            row = LatencyRecord(
                operation=record.operation,
                input="",
                output="",
                target="t",
                timing=summarise([ms[record.operation]], True),
                provenance={},
            )
            store.put(key, row)
            store.put(key, record.model_copy(update={"latency_key": key}))


def test_slower_candidates_are_dropped_and_taken_back(context: Context) -> None:
    store = context.store
    ms = {"teacher": 1.0, "identity": 5.0, "cb_stack_3x3_ex0.5": 0.5, "cb_res_3x3": 1.0, "efn_3x3_e3_se1.00": 1.5}
    fill(store, context.teacher, ms)
    assert drop_slower(store, keep_slower=False) == 3
    dropped = store.all(SlowerRecord)
    assert {record.operation for record in dropped.values()} == {"efn_3x3_e3_se1.00"}
    assert dropped["one/efn_3x3_e3_se1.00"].reason == "1.5 ms is slower than the teacher's 1 ms"
    fill(store, context.teacher, {**ms, "efn_3x3_e3_se1.00": 0.9})
    assert drop_slower(store, keep_slower=False) == 0
    assert not store.all(SlowerRecord)
    assert not store.all(CandidateRecord)


def test_a_verdict_of_one_target_does_not_forget_what_was_trained(context: Context) -> None:
    store, key = context.store, "one/efn_3x3_e3_se1.00"
    trained = CandidateRecord(block="one", operation="efn_3x3_e3_se1.00", state="ready", recipe="r", steps=9)
    stopped = CandidateRecord(block="one", operation="cb_res_3x3", state="dropped", recipe="r", steps=4)
    store.put(key, trained)
    store.put("one/cb_res_3x3", stopped)
    slow = {"teacher": 1.0, "identity": 5.0, "cb_stack_3x3_ex0.5": 0.5, "cb_res_3x3": 1.5, "efn_3x3_e3_se1.00": 1.5}
    for ms in (slow, dict.fromkeys(slow, 1.0)):
        fill(store, context.teacher, ms)
        drop_slower(store, keep_slower=False)
        assert (key in slower(store)) == (ms is slow)
        assert store.all(CandidateRecord) == {key: trained, "one/cb_res_3x3": stopped}


def test_a_mark_of_an_earlier_version_is_a_verdict(context: Context) -> None:
    fill(context.store, context.teacher, dict.fromkeys([spec.name for spec in context.pool], 1.0))
    mark = CandidateRecord(block="one", operation="cb_res_3x3", state="dropped", reason="2 ms is slower")
    context.store.put("one/cb_res_3x3", mark)
    assert slower(context.store) == {"one/cb_res_3x3"}
    assert drop_slower(context.store, keep_slower=False) == 0
    assert not context.store.all(CandidateRecord)


def test_a_trained_candidate_is_not_forgotten_when_it_stays(context: Context) -> None:
    fill(context.store, context.teacher, dict.fromkeys([spec.name for spec in context.pool], 1.0))
    ready = CandidateRecord(block="one", operation="cb_res_3x3", state="ready", recipe="r")
    context.store.put("one/cb_res_3x3", ready)
    assert drop_slower(context.store, keep_slower=True) == 0
    assert context.store.get(CandidateRecord, "one/cb_res_3x3") == ready


def test_a_table_of_another_device_is_refused_with_the_difference(context: Context) -> None:
    ours = here(context)
    theirs = {**ours, "device": "abacus", "runtime": "onnxruntime 1.0"}
    timing = summarise([1.0], True)
    row = LatencyRecord(
        operation="x", input="", output="", target=context.target.fingerprint, timing=timing, provenance=theirs
    )
    context.store.put("x", row)
    with pytest.raises(UsageError) as caught:
        ProfilePass().run(context)
    message = str(caught.value)
    assert f"device 'abacus' is not {ours['device']!r}, runtime 'onnxruntime 1.0' is not" in message
    assert message.endswith("go on there, or give another --output to measure here")


def test_networks_of_another_target_are_kept_apart_and_rows_are_found(context: Context) -> None:
    def measure(context: Context, ms: float) -> None:
        timing, now = summarise([ms], True), here(context)
        teacher = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=now)
        context.store.put("teacher", teacher)
        context.store.put("model", LatencyModelRecord(fixed_ms=0, slope=1, teacher_ms=ms, networks=1))
        row = LatencyRecord(operation="x", input="", output="", target=now["target"], timing=timing, provenance=now)
        context.store.put(f"{now['target']}/x", row)

    def teacher_ms(context: Context) -> tuple[float, float]:
        teacher = context.store.get(NetworkLatencyRecord, "teacher")
        model = context.store.get(LatencyModelRecord, "model")
        assert teacher is not None
        assert model is not None
        return teacher.timing.ms, model.teacher_ms

    elsewhere = context.target.model_copy(update={"batch_size": 4})
    measure(context, 1.0)
    there = replace(context, target=elsewhere)
    assert there.store.count("network_latency") == there.store.count("latency_model") == 0
    assert there.store.count("latency") == 1
    measure(there, 3.0)
    assert teacher_ms(replace(there, target=context.target)) == teacher_ms(context) == (1.0, 1.0)
    assert teacher_ms(replace(context, target=elsewhere)) == (3.0, 3.0)
    assert context.store.count("latency") == 2


def test_differences_name_both_sides() -> None:
    assert (
        differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == "b '2' is not '3', c 'unknown' is not '4'"
    )
    assert differences({"a": "1", "b": "2"}, {"a": "1"}) == ""


def test_an_imported_table_leaves_nothing_to_measure(make_context: MakeContext, tmp_path: Path) -> None:
    first = listed(make_context, tmp_path / "run", "teacher,identity")
    ProfilePass().run(first)
    export_table(first.store, first.target, tmp_path / "table.json")
    second = listed(make_context, tmp_path / "other", "teacher,identity")
    result = ImportPass(file=str(tmp_path / "table.json")).run(second)
    assert result.notes[0].startswith("5 rows of ")
    assert ProfilePass().run(second).notes[0].startswith("0 operations timed, 5 in the table")
    assert second.store.all(LatencyRecord) == first.store.all(LatencyRecord)


def test_a_target_that_cannot_run_here_is_one_line(context: Context) -> None:
    half = context.target.model_copy(update={"precision": "fp16"})
    with pytest.raises(UsageError, match="target test cannot be run here: the onnxruntime backend runs fp32 only"):
        ProfilePass().run(replace(context, target=half))
