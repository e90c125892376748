from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.records import LatencyRecord
from hant.passes.pretraining.partial import TrainingRecord
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.progress import Progress, Task
from hant.transformer.contracts.record import Record
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import StorageError
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]
POOL = "teacher,identity,cb_res_1x1,cb_res_3x3"
PLAIN = PretrainPass(epochs=1, batch_size=64)
STEPS = 1222 // 64
SAVING = replace(PLAIN, save_seconds=0.0)
"""Every unit takes one step."""


class Full(RunStore):
    """A run on a disk that is full from the seventh step on."""

    def put(self, key: str, record: Record) -> None:
        if isinstance(record, TrainingRecord) and record.step == 7:
            raise StorageError("disk full")
        super().put(key, record)


class Counting(Progress, Task):
    """Counts steps."""

    steps = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.steps += count


def weights(store: RunStore) -> dict[str, torch.Tensor]:
    return {
        f"{key}:{name}": tensor
        for key, record in store.all(CandidateRecord).items()
        if record.file
        for name, tensor in store.load_tensors(record.file).items()
    }


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def latencies(store: RunStore, ms: dict[str, float]) -> None:
    """Give every operation a row of the table."""
    for name, value in ms.items():
        timing = Timing(ms=value, low=value, high=value, trimmed_mean=value)
        row = LatencyRecord(operation=name, input="", output="", target="test", timing=timing, provenance={})
        store.put(name, row)
    for key, record in store.all(OperationRecord).items():
        store.put(key, record.model_copy(update={"latency_key": record.operation}))


@pytest.fixture
def expected(tmp_path: Path, make_context: MakeContext) -> dict[str, torch.Tensor]:
    with RunStore(tmp_path / "expected") as store:
        PLAIN.run(make_context(store, POOL))
        assert store.count("training") == 0
        return weights(store)


def test_a_unit_that_runs_out_of_time_goes_on_with_the_same_bits(
    tmp_path: Path, make_context: MakeContext, expected: dict[str, torch.Tensor]
) -> None:
    with RunStore(tmp_path / "run") as store:
        SAVING.run(make_context(store, POOL))
        assert_equal(weights(store), expected)
        record = store.get(CandidateRecord, "one/cb_res_3x3")
        assert record is not None
        assert record.steps == STEPS
        assert list(store.root.rglob("*.step*")) == []


def test_a_run_that_ended_between_units_goes_on_from_there(
    tmp_path: Path, make_context: MakeContext, expected: dict[str, torch.Tensor]
) -> None:
    with Full(tmp_path / "run") as store, pytest.raises(StorageError, match="disk full"):
        SAVING.run(make_context(store, POOL))
    with RunStore(tmp_path / "run") as store:
        assert {record.step for record in store.all(TrainingRecord).values()} == {6}
        progress = Counting()
        PLAIN.run(make_context(store, POOL, progress=progress))
        assert progress.steps == 8 * STEPS
        assert store.get(CandidateRecord, "one/cb_res_3x3") is not None
        assert_equal(weights(store), expected)
        assert list(store.root.rglob("*.step*")) == []


def test_halving_stops_what_is_not_selected_and_leaves_the_weights_of_the_others(
    tmp_path: Path, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hant.passes.pretraining.halving.SELECTIONS", 1)  # ten would use all of so small a pool
    plain = replace(PLAIN, epochs=3)
    halving = replace(plain, halving=1)
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, POOL)
        latencies(store, {"teacher": 3.0, "identity": 0.0, "cb_res_1x1": 2.0, "cb_res_3x3": 1.0})
        halving.run(context)
        found, some = store.all(CandidateRecord), weights(store)
        stopped = {key: record.reason for key, record in found.items() if record.state == "dropped"}
        assert stopped.keys() == {"one/cb_res_1x1", "two/cb_res_1x1", "three/cb_res_1x1"}
        assert stopped["one/cb_res_1x1"] == "stopped after 28 of 57 steps: no selection near the best uses it"
        assert list(store.root.rglob("*.step*")) == []

        for key in stopped:  # as profiling does after another measurement: the errors on the way are still known
            store.delete(CandidateRecord, key)
        halving.run(context)
        again = store.all(CandidateRecord)
        assert {key: again[key].reason for key in stopped} == stopped

        plain.run(context)  # trains what was stopped
        full = weights(store)
        assert len(full) > len(some)
        assert_equal({name: full[name] for name in some}, some)


def test_who_goes_ahead_is_trained_as_all_are_also_after_a_stop(
    tmp_path: Path, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, expected: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setattr("hant.passes.pretraining.halving.SELECTIONS", 1)
    monkeypatch.setattr("hant.passes.pretraining.halving._FEW", 1)  # of the last two blocks the later one goes ahead
    ms = {"teacher": 3.0, "identity": 0.0, "cb_res_1x1": 2.99, "cb_res_3x3": 1.0}
    found = []
    for stop in (False, True):
        if stop:
            with Full(tmp_path / f"{stop}") as store:
                context = make_context(store, POOL)
                latencies(store, ms)
                with pytest.raises(StorageError, match="disk full"):
                    replace(SAVING, halving=1).run(context)
        with RunStore(tmp_path / f"{stop}") as store:
            context = make_context(store, POOL)
            latencies(store, ms)
            replace(PLAIN, halving=1).run(context)
            records = store.all(CandidateRecord)
            found.append({key: (record.state, record.nmse) for key, record in records.items()})
            assert records["three/cb_res_1x1"].state == "ready"
            assert records["one/cb_res_1x1"].state == records["two/cb_res_1x1"].state == "dropped"
            some = weights(store)
            assert_equal({name: expected[name] for name in some}, some)
    assert found[0] == found[1]


def test_without_a_table_nothing_is_stopped(
    tmp_path: Path, make_context: MakeContext, expected: dict[str, torch.Tensor]
) -> None:
    with RunStore(tmp_path / "run") as store:
        replace(PLAIN, halving=3).run(make_context(store, POOL))
        assert_equal(weights(store), expected)


def test_a_bound_on_memory_changes_no_bit(
    tmp_path: Path, make_context: MakeContext, expected: dict[str, torch.Tensor]
) -> None:
    with RunStore(tmp_path / "run") as store:
        replace(PLAIN, memory=1).run(make_context(store, POOL))
        assert_equal(weights(store), expected)
