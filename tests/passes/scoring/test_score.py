from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.records import LatencyRecord
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.passes.scoring.suffix import Suffix, SuffixError
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Timing
from hant.transformer.data.splits import split
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import Tensor, fx, nn

MakeContext = Callable[..., Context]


def in_place_of(graph: Graph, name: str, module: nn.Module) -> fx.GraphModule:
    """The network with another module at ``name``, without the rewriter."""
    copied = fx.GraphModule(dict(graph.module.named_modules()) | {name: module}, cast(fx.Graph, graph.module.graph))
    return copied.eval()


def test_scores_are_the_loss_changes_of_whole_networks(
    tmp_path: Path, make_context: MakeContext, small_graph: Graph
) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store)
        PretrainPass(epochs=1, batch_size=64).run(context)
        ScorePass(batch_size=50).run(context)
        scores = store.all(ScoreRecord)
        assert scores.keys() == store.all(CandidateRecord).keys()
        held_out = split(context.dataset, 0).held_out
        teacher = evaluate(small_graph.module, held_out, 50)
        weights = CandidateWeights(store)
        for key, score in scores.items():
            block, operation = key.split("/")
            if operation == "teacher":
                assert score.delta == 0
                continue
            network = in_place_of(small_graph, block, weights.module(small_graph.block(block), operation))
            whole = evaluate(network, held_out, 50)
            assert score.delta == whole.loss - teacher.loss
            assert (score.accuracy, score.samples) == (whole.accuracy, 216)


def test_candidates_that_lose_much_are_left_out_of_every_search(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "teacher,identity,cb_res_3x3")
        PretrainPass(epochs=0.1, batch_size=64).run(context)
        ScorePass(samples=64).run(context)
        own = store.get(ScoreRecord, "one/teacher")
        other = store.get(ScoreRecord, "one/cb_res_3x3")
        assert own is not None
        assert other is not None
        store.put("one/teacher", own.model_copy(update={"accuracy": 90.0}))
        for accuracy, lost in ((84.9, True), (85.0, False)):
            store.put("one/cb_res_3x3", other.model_copy(update={"accuracy": accuracy}))
            notes = ScorePass(samples=64, largest_drop=5.0).run(context).notes
            found = store.all(ScoreRecord)
            assert found["one/cb_res_3x3"].left_out is lost
            assert not any(score.left_out for score in found.values() if score.operation == "teacher")
            expected = {key.partition("/")[2] for key, s in found.items() if s.block == "one" and not s.left_out}
            for block in context.teacher.replaceable:  # the table wants a latency of every row
                for name in ("teacher", "identity", "cb_res_3x3"):
                    record = store.get(OperationRecord, f"{block.name}/{name}")
                    assert record is not None
                    store.put(f"{block.name}/{name}", record.model_copy(update={"latency_key": f"t/{name}/x"}))
            for name in ("teacher", "identity", "cb_res_3x3"):
                row = LatencyRecord(
                    operation=name, input="", output="", target="t", provenance={},
                    timing=Timing(ms=1.0, low=1.0, high=1.0, trimmed_mean=1.0),
                )  # fmt: skip
                store.put(f"t/{name}/x", row)
            assert set(search_table(store, context.teacher).operations[0]) == expected
            count = sum(score.left_out for score in found.values())
            assert f"{count} candidates lose more than 5.00 points and are left out" in notes
        ScorePass(samples=64).run(context)
        assert not any(score.left_out for score in store.all(ScoreRecord).values())


def test_finished_scores_are_kept_and_new_candidates_scored(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store)
        PretrainPass(epochs=1, batch_size=64).run(context)
        ScorePass().run(context)
        first = store.all(ScoreRecord)
        assert ScorePass().run(context).notes == ("all candidates are scored",)
        store.delete(ScoreRecord, "two/cb_res_3x3")
        ScorePass().run(context)
        assert store.all(ScoreRecord) == first
        PretrainPass(epochs=2, batch_size=64).run(context)
        ScorePass().run(context)
        assert store.get(ScoreRecord, "two/cb_res_3x3") != first["two/cb_res_3x3"]


def test_a_network_whose_loss_is_no_number_fails_the_candidate(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "teacher,cb_res_3x3")
        PretrainPass(epochs=1, batch_size=64).run(context)
        record = store.get(CandidateRecord, "two/cb_res_3x3")
        assert record is not None
        tensors = store.load_tensors(record.file)
        digest = store.save_tensors(record.file, {name: t * float("nan") for name, t in tensors.items()})
        store.put("two/cb_res_3x3", record.model_copy(update={"digest": digest}))
        ScorePass().run(context)
        failed = store.get(CandidateRecord, "two/cb_res_3x3")
        assert failed is not None
        assert (failed.state, failed.reason) == ("failed", "loss of the network with it is nan")
        assert store.get(ScoreRecord, "two/cb_res_3x3") is None


def test_suffix_refuses_a_network_that_writes_into_earlier_values(small_graph: Graph) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            before = x * 2
            after = self.block(before)
            before.add_(1)
            return cast(Tensor, before + after)

    graph = replace(small_graph, module=fx.symbolic_trace(Writes()))
    block = replace(small_graph.blocks[0], target="block")
    with pytest.raises(SuffixError, match="changes earlier values in place"):
        Suffix(graph, block, [torch.zeros(1, 1, 2, 2)]).run(nn.Identity())


def test_suffix_refuses_what_is_no_graph(small_graph: Graph) -> None:
    graph = replace(small_graph, module=nn.Sequential(nn.Identity()))
    with pytest.raises(SuffixError, match="the network is a Sequential, not a graph module"):
        Suffix(graph, small_graph.blocks[0], [torch.zeros(1)])
