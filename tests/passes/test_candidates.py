"""What each block could become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hant.op_library.cost import macs, parameters
from hant.op_library.pools import pool
from hant.passes.candidates import CandidatesPass, latency_key, unfit
from hant.transformer.contracts.candidate import build_candidate
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.records import OperationRecord
from hant.transformer.contracts.store import RunStore
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph

MakeContext = Callable[..., Context]


@pytest.fixture
def context(make_context: MakeContext, tmp_path: Path) -> Context:
    return make_context(RunStore(tmp_path / "run"))


def test_every_pair_gets_a_record_with_its_costs(context: Context) -> None:
    CandidatesPass().run(context)
    records = context.store.all(OperationRecord)
    assert len(records) == len(context.teacher.replaceable) * len(context.pool)
    for record in records.values():
        block = context.teacher.block(record.block)
        spec = next(spec for spec in context.pool if spec.name == record.operation)
        assert record.fits == (unfit(block, spec) is None)
        assert bool(record.reason) != record.fits
        if record.fits and record.operation != "teacher":
            module = build_candidate(block, spec, context.seed)
            assert (record.parameters, record.macs) == (parameters(module), macs(module, block.input))


def test_identity_does_not_fit_where_shapes_change(context: Context) -> None:
    result = CandidatesPass().run(context)
    record = context.store.get(OperationRecord, "two/identity")
    assert record is not None
    assert record.reason == "identity keeps its input 8x8x8, but the output is 16x4x4"
    assert result.notes[0] == "14 of 15 candidates fit 3 blocks"
    assert record.reason in result.notes[1]


def test_identity_does_not_fit_where_the_block_forbids_it(small_graph: Graph) -> None:
    block = replace(small_graph.block("one"), identity_allowed=False)
    assert unfit(block, pool("identity")[0]) == "input and output of the block differ in meaning"


def test_records_of_an_earlier_pool_are_replaced(context: Context) -> None:
    CandidatesPass().run(context)
    CandidatesPass().run(replace(context, pool=pool("teacher,identity")))
    assert {record.operation for record in context.store.all(OperationRecord).values()} == {"teacher", "identity"}


def test_blocks_that_cost_the_same_share_a_row(context: Context) -> None:
    one, target = context.teacher.block("one"), context.target
    other = replace(one, name="other")
    unlike = replace(one, name="unlike", signature="unlike")
    assert latency_key(one, "teacher", target) == latency_key(other, "teacher", target)
    assert latency_key(one, "teacher", target) != latency_key(unlike, "teacher", target)
    assert latency_key(one, "cb_res_3x3", target) == latency_key(unlike, "cb_res_3x3", target)
    assert latency_key(one, "cb_res_3x3", target) != latency_key(replace(one, calls=2), "cb_res_3x3", target)
    batched = target.model_copy(update={"batch_size": 8})
    assert latency_key(one, "teacher", target) != latency_key(one, "teacher", batched)


def test_a_network_without_blocks_is_refused(context: Context) -> None:
    empty = replace(context, graph=replace(context.teacher, blocks=()))
    with pytest.raises(UsageError, match="no replaceable block; hant-opt inspect MODEL says why"):
        CandidatesPass().run(empty)
