"""What each block could become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hant
import onnx
import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.cost import macs, parameters
from hant.op_library.pools import operation, pool
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import CandidatesPass, latency_key, unfit
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.plan import plan
from hant.passes.latency.rows import groups
from hant.passes.latency.workbench import Workbench
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn

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
    teacher, plain = operation("teacher"), operation("cb_res_3x3")
    other = replace(one, name="other")
    unlike = replace(one, name="unlike", signature="unlike")
    assert latency_key(one, teacher, target) == latency_key(other, teacher, target)
    assert latency_key(one, teacher, target) != latency_key(unlike, teacher, target)
    assert latency_key(one, plain, target) == latency_key(unlike, plain, target)
    twice = replace(one, other_calls=((one.input, one.output),))
    assert latency_key(one, plain, target) != latency_key(twice, plain, target)
    elsewhere = replace(one, other_calls=((TensorSpec((8, 4, 4)), TensorSpec((8, 4, 4))),))
    assert latency_key(twice, plain, target) != latency_key(elsewhere, plain, target)
    batched = target.model_copy(update={"batch_size": 8})
    assert latency_key(one, teacher, target) != latency_key(one, teacher, batched)


def test_a_network_without_blocks_is_refused(context: Context) -> None:
    empty = replace(context, graph=replace(context.teacher, blocks=()))
    with pytest.raises(UsageError, match="no replaceable block; hant-opt inspect MODEL says why"):
        CandidatesPass().run(empty)


def test_candidates_are_counted_and_timed_as_they_are_deployed(make_context: MakeContext, tmp_path: Path) -> None:
    lowered: list[onnx.ModelProto] = []

    class Seeing(OnnxRuntimeBackend):
        def finish(self, graph: onnx.ModelProto, inputs: Any, target: Target, path: Path) -> None:
            lowered.append(graph)
            super().finish(graph, inputs, target, path)

    with RunStore(tmp_path / "run") as store:
        context = replace(make_context(store, "teacher,repvgg_3x3,dbb_1x1"), backend=Seeing())
        CandidatesPass().run(context)
        records, block = store.all(OperationRecord), context.teacher.block("one")
        for name, kernel in (("repvgg_3x3", 9), ("dbb_1x1", 1)):
            found = records[f"one/{name}"]
            assert (found.parameters, found.macs) == (8 * 8 * kernel + 8, 8 * 8 * 8 * 8 * kernel)
            module = nn.Sequential(build_candidate(block, operation(name), 0), nn.Sigmoid())
            Workbench(context).lower([module], [(block.input.random(1),)])
    assert [Counter(node.op_type for node in graph.graph.node) for graph in lowered] == [
        {"Conv": 1, "Relu": 1, "Sigmoid": 1}
    ] * 2


class Pyramid(nn.Module):
    """One head over two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.head(x), self.head(self.down(x))


def test_a_block_that_is_called_at_two_sizes_costs_the_sum_of_both(make_context: MakeContext, tmp_path: Path) -> None:
    network = Pyramid().eval()
    graph = hant.trace(network, torch.randn(2, 1, 16, 16))
    head = graph.block("head")
    assert [str(entry) for entry, _ in head.contracts] == ["8x16x16", "8x8x8"]
    graph = replace(graph, blocks=(replace(head, replaceable=True),))
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, "teacher,identity,cb_stack_3x3_ex1.0")
        protocol = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
        target = context.target.model_copy(update={"protocol": protocol})
        example = (torch.zeros(1, 1, 16, 16),)
        context = replace(context, model=network, graph=graph, example_inputs=example, target=target)
        CandidatesPass().run(context)
        records = store.all(OperationRecord)
        assert records["head/teacher"].macs == head.macs == (16 * 16 + 8 * 8) * 2 * 9 * 8 * 8
        # the operation is the teacher's own: two convolutions of the same size
        assert records["head/cb_stack_3x3_ex1.0"].macs == head.macs
        own, *_, others = groups(context, plan(context), 12)
        assert [tuple(x.shape[1:]) for x in own.inputs] == [(8, 16, 16)] * 2 + [(8, 8, 8)] * 2
        assert [weight for _, weight in own.formulas[0].weights] == [1.0, -1.0, 1.0, -1.0]
        (identity, operation) = sorted(others.formulas, key=lambda formula: len(formula.weights))
        assert identity.weights == ()
        told = [(tuple(others.inputs[i].shape[1:]), weight) for i, weight in operation.weights]
        assert told == [((8, 16, 16), 1.0), ((8, 8, 8), 1.0), ((8, 16, 16), -1.0), ((8, 8, 8), -1.0)]
