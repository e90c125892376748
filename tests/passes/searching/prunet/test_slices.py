"""Slices of the teacher's own blocks as a Prunode: begun with the teacher's weights, trained, and handed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hant import trace
from hant.op_library.elastic import Elastic
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.latency.profile import ProfilePass
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import TrainedRecord
from hant.passes.searching.contest import Contest
from hant.passes.searching.prunet.loop import PrunetSearch
from hant.passes.searching.prunet.options import Prunet
from hant.passes.searching.prunet.outcome import keep, outcome_of
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.table import error_table
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore
from torch import nn


@pytest.fixture
def elastic_run(_scored_run: tuple[nn.Module, Path], tmp_path: Path, search_runs: ModuleType) -> Iterator[Context]:
    """A run of the pool ``elastic`` in which nothing is trained but batch norms estimated."""
    with RunStore(tmp_path / "run") as store:
        made: Context = search_runs.open_context(store, _scored_run[0], "elastic")
        made = replace(made, graph=trace(made.model, made.example_inputs, include=["layer1.1", "layer2.0"]))
        CandidatesPass().run(made)
        ProfilePass().run(made)
        PretrainPass(derived="copy").run(made)
        yield made


def test_slices_are_one_prunode_on_the_teachers_weights_and_go_on_trained(elastic_run: Context) -> None:
    store, teacher = elastic_run.store, elastic_run.teacher
    table = error_table(store, teacher)
    contest = Contest(table, {"ms": 0.7 * table.total("ms", table.teacher())})
    search = PrunetSearch(elastic_run, contest, Prunet(steps=30, search_batch_size=16, pruning="none"))
    weights, narrowest = CandidateWeights(store), "slice_w0.25"
    for place in search.supernet.places:
        (own_block, slices), names = place.ladders, place.ladders[1].names
        assert own_block.names == ("teacher",)
        assert len(slices.names) > 1  # of few channels several widths are one
        assert names[0] == narrowest
        elastic, block = search.supernet.layers[place.name].operations[1], teacher.block(place.name)
        assert isinstance(elastic, Elastic)
        x = block.input.random(3, torch.Generator().manual_seed(0))
        for module in (elastic, *elastic.skeletons):
            module.eval()
        with torch.no_grad():
            wide, own = elastic(x, names[-1]), weights.module(block, names[-1])(x)
            assert torch.allclose(wide, own, atol=1e-4)  # what was cut from the teacher, its channels in order
            for name in names[:-1]:  # but for batch norms, which have statistics of their own
                narrow, cut = elastic(x, name), weights.module(block, name)(x)
                assert (narrow - cut).square().mean() < 0.3 * cut.var(), name
    search.supernet.train()
    before = [search.supernet.cut(place, 1, narrowest) for place in search.supernet.places]
    search.run("prunet")
    trained = {f"{place.name}/{narrowest}": (index, 1) for index, place in enumerate(search.supernet.places)}
    chosen = {place.name: narrowest for place in search.supernet.places}
    selection = SelectionRecord(index=0, choice=chosen, objective=0, bound=0, cost={}, predicted_ms=1.0)
    assert keep(replace(outcome_of(search), trained=trained), [selection]) == 2
    assert store.all(TrainedRecord).keys() == trained.keys()
    handed = CandidateWeights(store, trained=True)
    for place, old in zip(search.supernet.places, before, strict=True):
        now, own = search.supernet.cut(place, 1, narrowest), handed.module(teacher.block(place.name), narrowest)
        assert now is not None
        assert old is not None
        assert all(torch.equal(now[name], parameter) for name, parameter in own.named_parameters())
        assert any(not torch.equal(old[name], parameter) for name, parameter in own.named_parameters())
