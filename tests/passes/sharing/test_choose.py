"""Students that are chosen in the weights that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.records import OperationRecord
from hant.passes.networks.evaluate import evaluate
from hant.passes.networks.supernet import statistics_of
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.sharing.choose import SharedWeights, scored
from hant.passes.sharing.extract import shared_network
from hant.passes.sharing.records import SharedRecord
from hant.passes.sharing.shrink import ShrinkPass
from hant.tests.passes.search_runs import Net, list_operations, open_context
from hant.transformer.contracts.context import Context
from hant.transformer.data.splits import split
from hant.transformer.runs.store import RunStore

POOL = "teacher,identity,slice_w0.25"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A run whose shared weights began from nothing."""
    with RunStore(tmp_path_factory.mktemp("elastic") / "run") as store:
        context = open_context(store, Net().eval(), POOL)
        list_operations(context)
        for key, record in store.all(OperationRecord).items():
            if record.fits:
                ready = CandidateRecord(block=record.block, operation=record.operation, state="ready")
                store.put(key, ready)
        ShrinkPass(start="none", epochs=1, batch_size=256, learning_rate=0.05).run(context)
        yield context


def record_of(context: Context) -> SharedRecord:
    record = context.store.get(SharedRecord, "shared")
    assert record is not None
    return record


def judge_of(context: Context) -> Judge:
    shared, record = shared_network(context, record_of(context)), record_of(context)
    there = replace(context, graph=shared.student({}))
    return Judge(there, Protocol(200, 100, statistics="batch"), SharedWeights(context, shared, record))


def test_any_student_is_trained_though_none_is_named(trained: Context) -> None:
    record = record_of(trained)
    assert (record.schedule, record.drawn) == ("deps", True)
    assert list(record.students) == ["least", "quarter", "half", "three quarters", "full"]
    assert all({"slice_w0.25", "teacher"} <= set(names) for names in record.operations.values())
    assert ShrinkPass(start="none").lost(trained) == ""


def test_operations_are_those_of_the_shared_weights_to_the_bit(trained: Context) -> None:
    record = record_of(trained)
    shared, judge = shared_network(trained, record), judge_of(trained)
    choice = {block: names[place % len(names)] for place, (block, names) in enumerate(record.operations.items())}
    images = torch.rand(4, 1, 12, 12)
    with torch.no_grad():
        wanted = shared.student(choice).network.eval()(images)
    assert torch.equal(judge.supernet.outputs(choice, images), wanted)
    with torch.no_grad():
        assert not torch.equal(trained.teacher.network.eval()(images), judge.supernet.outputs({}, images))


def test_a_score_is_what_the_operation_alone_changes_in_the_full_network(trained: Context) -> None:
    record, judge = record_of(trained), judge_of(trained)
    table = scored(trained, judge, record)
    shared = shared_network(trained, record)
    place = table.blocks.index("layer1.1")
    assert dict(zip(table.operations[place], table.loss[place], strict=True))["teacher"] == 0.0
    losses = []
    for choice in ({}, {"layer1.1": "slice_w0.25"}):
        network = shared.student(choice).network.eval()
        with statistics_of(network, "batch"):
            # all of the 200 images at once are the same two batches: each has the statistics of its own
            losses.append([evaluate(network, part, 100).loss for part in batches_of(judge)])
    change = sum(losses[1]) / 2 - sum(losses[0]) / 2
    assert dict(zip(table.operations[place], table.loss[place], strict=True))["slice_w0.25"] == pytest.approx(change)


def batches_of(judge: Judge) -> list[torch.utils.data.Subset]:  # type: ignore[type-arg]
    held_out = split(judge.context.dataset, judge.context.seed).held_out
    return [torch.utils.data.Subset(held_out, judge.part(first, first + 100).tolist()) for first in (0, 100)]


def test_what_is_known_is_not_evaluated_again(trained: Context) -> None:
    scored(trained, judge_of(trained), record_of(trained))
    before = trained.store.count("evaluation")
    judge = judge_of(trained)
    scored(trained, judge, record_of(trained))
    assert trained.store.count("evaluation") == before
    other = SharedWeights(
        trained, shared_network(trained, record_of(trained)), record_of(trained).model_copy(update={"digest": "other"})
    )
    assert Judge(judge.context, judge.protocol, other).key({"layer1.0": "teacher"}) != judge.key(
        {"layer1.0": "teacher"}
    )
    assert pool(POOL) == trained.pool
