"""Operations made of their block's own module: what is known of one says nothing of a block built otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hant.op_library.pools import operation
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import CandidatesPass, latency_key
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.kits.expected import Expected
from hant.passes.latency.kits.manifest import GroupPlan, Input, Measured, Network, RowPlan
from hant.passes.latency.plan import Plan, plan
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.rows import groups
from hant.passes.latency.table_file import add_table, export_table, read_file, read_table
from hant.passes.pretraining.memory import Bound
from hant.passes.pretraining.recipe import resolve
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import LoadError, UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import nn

MakeContext = Callable[..., Context]
POOL = "teacher,identity,slice_w0.5,cb_res_3x3"
PROVENANCE = {"device": "a device"}
MS = Timing(ms=1.0, low=1.0, high=1.0, trimmed_mean=1.0)


def twins(graph: Graph, second: nn.Module, signature: str) -> Graph:
    """Two blocks of one shape in place of the graph's own."""
    one = graph.block("one")
    return replace(graph, blocks=(one, replace(one, name="other", module=second, signature=signature)))


@pytest.fixture
def context(make_context: MakeContext, small_graph: Graph, tmp_path: Path) -> Iterator[Context]:
    """Blocks of one shape with 8 and 32 inner channels."""
    wide = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 1), nn.ReLU()).eval()
    with RunStore(tmp_path / "run") as store:
        context = replace(make_context(store, POOL), graph=twins(small_graph, wide, "wide"))
        CandidatesPass().run(context)
        yield context


def key(context: Context, block: str, name: str) -> str:
    return latency_key(context.teacher.block(block), operation(name), context.target)


def rows(plan: Plan) -> set[str]:
    return {row.key for site in plan.sites for row in (site.reference, *site.rows) if row is not None}


def test_costs_and_rows_follow_the_inside_of_the_block(context: Context) -> None:
    records = context.store.all(OperationRecord)
    assert records["one/slice_w0.5"].parameters == 4 * 8 * 9 + 2 * 4 + 8 * 4 * 9 + 8
    assert records["other/slice_w0.5"].parameters == 16 * 8 * 9 + 16 + 16 * 8 + 8
    assert records["one/cb_res_3x3"].parameters == records["other/cb_res_3x3"].parameters
    for name, shared in {"teacher": False, "slice_w0.5": False, "cb_res_3x3": True, "identity": True}.items():
        assert (records[f"one/{name}"].latency_key == records[f"other/{name}"].latency_key) == shared, name
        assert key(context, "other", name) == records[f"other/{name}"].latency_key
        assert (f"{name}:wide" in key(context, "other", name)) != shared
    assert len(rows(plan(context))) == 2 + 2 + 1 + 1


def test_blocks_of_one_structure_share_a_row(context: Context) -> None:
    one = context.teacher.block("one")
    same = replace(context, graph=twins(context.teacher, one.module, one.signature))
    CandidatesPass().run(same)
    assert key(same, "one", "slice_w0.5") == key(same, "other", "slice_w0.5")
    assert len(rows(plan(same))) == 4


def test_each_row_times_the_slice_of_its_own_block(context: Context) -> None:
    sizes = {
        formula.row.key: sum(p.numel() for p in group.modules[formula.weights[0][0]].parameters())
        for group in groups(context, plan(context), 12)
        for formula in group.formulas
        if formula.row.spec.name == "slice_w0.5"
    }
    found = [sizes[key(context, block, "slice_w0.5")] for block in ("one", "other")]
    listed = context.store.all(OperationRecord)
    own = [listed[f"{block}/slice_w0.5"].parameters for block in ("one", "other")]
    assert found[1] - found[0] == own[1] - own[0]  # both stand between the same neighbours


def test_an_imported_table_serves_blocks_of_its_own_structure_only(
    context: Context, make_context: MakeContext, small_graph: Graph, tmp_path: Path
) -> None:
    provenance = PROVENANCE | {"target": context.target.fingerprint}
    whole = NetworkLatencyRecord(selection={}, timing=MS, teacher=MS, provenance=provenance)
    context.store.put("teacher", whole)
    for site in plan(context).sites:
        for row in (site.reference, *site.rows):
            if row is not None:
                context.store.put(row.key, row.record(context.target, MS, provenance))
    file = tmp_path / "table.json"
    assert export_table(context.store, context.target, file) == 6
    unlike = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 1), nn.ReLU()).eval()
    with RunStore(tmp_path / "elsewhere") as store:
        other = replace(make_context(store, POOL), graph=twins(small_graph, unlike, "unlike"))
        CandidatesPass().run(other)
        assert add_table(store, read_table(read_file(file), other.target, provenance, file)) == 6
        assert rows(plan(other)) == {key(other, "other", "teacher"), key(other, "other", "slice_w0.5")}
    wrong = next(row for row in context.store.all(LatencyRecord).values() if row.operation == "slice_w0.5:wide")
    context.store.put(key(context, "one", "slice_w0.5"), wrong)
    export_table(context.store, context.target, file)
    with pytest.raises(UsageError, match=r"says that it is of slice_w0\.5:wide"):
        read_table(read_file(file), context.target, provenance, file)


def test_a_kit_tells_the_structures_apart(context: Context, tmp_path: Path) -> None:
    network = Network(file="a.onnx", inputs=(Input(shape=(1, 8, 8, 8), dtype="float32"),))
    reference = next(site.reference_key for site in plan(context).sites)
    measured = Measured(samples=((1.0,),) * 3, converged=(True,) * 3, date="", seconds=1.0)

    def group(block: str, name: str) -> GroupPlan:
        row = RowPlan(
            key=key(context, block, "slice_w0.5"),
            operation=name,
            input="8x8x8",
            output="8x8x8",
            weights=((1, 1.0), (2, -1.0)),
            plus=reference,
        )
        return GroupPlan(name="000", what="", max_rounds=9, networks=(network,) * 3, rows=(row,))

    expected = Expected(context, tmp_path / "result.json")
    expected.check(group("other", "slice_w0.5:wide"), measured)
    expected.check(group("one", "slice_w0.5:one"), measured)
    with pytest.raises(LoadError, match="follows from other timings than it does in this run"):
        expected.check(group("other", "slice_w0.5:one"), measured)


def test_memory_and_recipe_follow_the_structure_too(context: Context) -> None:
    recipe = resolve(1000, 0)
    one, other = context.teacher.block("one"), context.teacher.block("other")
    for name in ("teacher", "identity", "cb_res_3x3"):
        assert recipe.of(one, operation(name)) == recipe.of(other, operation(name)) == recipe.fingerprint
    slim = operation("slice_w0.5")
    copied = resolve(1000, 0, derived="copy")
    assert copied.fingerprint == recipe.fingerprint
    assert len({recipe.of(one, slim), recipe.of(other, slim), copied.of(one, slim), recipe.fingerprint}) == 4
    assert recipe.of(one, slim) == recipe.of(replace(one, name="again"), slim)
    bound = Bound(context.teacher, 16, 1 << 30, 1)
    assert len(list(bound([("one", slim), ("other", slim), ("one", operation("cb_res_3x3"))]))) == 1
    assert len(bound._known) == 3


def test_a_derived_candidate_is_made_of_the_block_and_nothing_is_put_behind_it(context: Context) -> None:
    one = context.teacher.block("one")
    module = build_candidate(one, operation("slice_w0.5"), 0)
    assert type(module) is type(one.module)
    assert not math.isnan(module(one.input.random(2)).sum().item())
    again = build_candidate(replace(one, name="else"), operation("slice_w0.5"), 7)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
