"""The search as a pass: inside the budget, resumable to the bit, and its weights go on into the student."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hant.passes.finetuning.start import start_of, student
from hant.passes.latency.measure import measure_network
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.pretraining.records import CandidateRecord, TrainedRecord
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.ranking.rank import RankPass
from hant.passes.ranking.records import WinnerRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.searching.contest import Contest
from hant.passes.searching.prunet.loop import PrunetSearch
from hant.passes.searching.prunet.options import Prunet
from hant.passes.searching.prunet.outcome import outcome_of
from hant.passes.searching.prunet.prunet import BaselinePrunetPass, PrunetPass
from hant.passes.searching.records import PrunetRecord
from hant.passes.searching.search import SearchPass
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import used_share
from hant.passes.selecting.table import error_table
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.data.splits import split
from hant.transformer.errors import LostError, UsageError

BUDGET = Budget.parse("0.8")
QUICK = Prunet(steps=25, search_batch_size=16)
FAST = PrunetPass(budget=BUDGET, solutions=3, steps=30, search_batch_size=16)


def contest_of(context: Context, share: float = 0.6) -> Contest:
    table = error_table(context.store, context.teacher)
    return Contest(table, {"ms": share * table.total("ms", table.teacher())})


def test_it_ends_in_selections_with_weights_that_ranking_and_training_take_up(profiled: Context) -> None:
    store = profiled.store
    store.delete(ScoreRecord)
    before = store.all(CandidateRecord)
    notes = FAST.run(profiled).notes
    assert "operations run in" in notes[-1]
    records = list(store.all(SelectionRecord).values())
    assert used_share(measure_network(profiled, records[0].choice), BUDGET) <= 1
    trained = store.all(TrainedRecord)
    assert trained
    told = store.get(PrunetRecord, "search")
    assert told is not None
    assert [name.partition(": ")[0] for name in told.probabilities] == [b.name for b in profiled.teacher.replaceable]
    assert all(len(way) == 24 and way[-1] > 0.5 for way in told.probabilities.values())  # a look each of the last steps
    assert store.path("figures/prunet-probabilities.svg").read_text().startswith("<svg")
    assert store.all(CandidateRecord) == before  # other students begin with the candidates as they were
    chosen = {f"{block}/{name}" for record in records for block, name in record.choice.items()}
    assert trained.keys() <= chosen
    RankPass(budget=BUDGET, batch_size=60).run(profiled)
    winner = store.get(WinnerRecord, "winner")
    assert winner is not None
    key, record = next((k, r) for k, r in trained.items() if records[0].choice[r.block] == r.operation)
    block = profiled.teacher.block(record.block)
    mine, theirs = (CandidateWeights(store, trained=own).module(block, record.operation) for own in (True, False))
    assert any(not torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    begun = student(profiled, records[0].choice).block(record.block).module
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), mine.parameters(), strict=True))
    begun_from = start_of(profiled, records[0].choice, "all")
    assert not FAST.lost(profiled)
    store.discard(record.file)
    assert FAST.lost(profiled) == f"the weights that the search trained of {key} are missing"
    with pytest.raises(LostError, match=r"is missing; hant-opt search .* makes it again"):
        student(profiled, records[0].choice)
    SearchPass(budget=BUDGET, solutions=2, rounds=0, race_images=60, batch_size=60).run(profiled)
    assert not store.all(TrainedRecord)  # another search's selections begin with the candidates
    assert start_of(profiled, records[0].choice, "all") != begun_from


def test_a_search_that_is_stopped_goes_on_to_the_same_bits(scored: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    contest = contest_of(scored)
    monkeypatch.setattr("hant.passes.searching.prunet.state._SAVE_EVERY", 5)
    step, calls = PrunetSearch._step, list[int]()

    def stopping(self: PrunetSearch) -> None:
        calls.append(self.state.clock.step)
        if len(calls) == 19:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(PrunetSearch, "_step", stopping)
    search = PrunetSearch(scored, contest, QUICK)
    with pytest.raises(KeyboardInterrupt):
        search.run("prunet")
    assert search.state.left  # operations had left by then
    resumed = PrunetSearch(scored, contest, QUICK)
    resumed.run("prunet")
    assert calls[19] == 15
    file = next(scored.store.path("checkpoints").glob("prunet-*"))
    tensors = scored.store.load_tensors(f"checkpoints/{file.name}")
    file.unlink()
    whole = PrunetSearch(scored, contest, QUICK)
    whole.run("prunet")
    again = scored.store.load_tensors(f"checkpoints/{file.name}")
    assert tensors.keys() == again.keys()
    same = [
        torch.equal(again[name].nan_to_num(), value.nan_to_num()) for name, value in tensors.items() if name != "clock"
    ]
    assert all(same)
    one, other = outcome_of(resumed), outcome_of(whole)
    assert one.preferred == other.preferred
    assert all((a == b).all() for a, b in zip(one.rows, other.rows, strict=True))


def test_neither_weights_nor_probabilities_see_what_ranking_judges_by(scored: Context) -> None:
    search = PrunetSearch(scored, contest_of(scored), QUICK)
    parts = split(scored.dataset, scored.seed)
    fit = set(parts.fit.indices)  # type: ignore[attr-defined]
    assert fit.isdisjoint(parts.held_out.indices)  # type: ignore[attr-defined]
    assert set(search.judged.tolist()).isdisjoint(search._trained.tolist())
    assert len(search.judged) + len(search._trained) == len(fit)
    assert len(search.judged) == len(fit) // 5


def test_a_higher_price_makes_a_faster_network(scored: Context) -> None:
    contest = contest_of(scored)
    costs = []
    for alpha in (0.05, 40.0):
        outcome = outcome_of(run(scored, contest, replace(QUICK, alpha=alpha)))
        costs.append(contest.table.total("ms", outcome.preferred))
    assert costs[1] < costs[0]


def run(context: Context, contest: Contest, options: Prunet) -> PrunetSearch:
    search = PrunetSearch(context, contest, options)
    search.run("prunet")
    return search


@pytest.mark.parametrize("paths", ["sampled", "mixture"])
def test_other_ways_to_train_the_weights_end_in_one_operation_a_layer(scored: Context, paths: str) -> None:
    search = run(scored, contest_of(scored), replace(QUICK, paths=paths, corner="paper"))  # type: ignore[arg-type]
    assert all(len(place.alive) == 1 for place in search.supernet.places)
    left = {layer for layer, _, _ in search.state.left}
    assert left == set(range(len(search.supernet.places)))


def test_skips_need_weights_that_train(scored: Context) -> None:
    with pytest.raises(UsageError, match=r"skip_factor 1.1 and block_factor 0.55 need weights that train"):
        PrunetPass(weights_rate=0).check(scored)
    PrunetPass(weights_rate=0, skip_factor=1.0, block_factor=1.0).check(scored)
    with pytest.raises(UsageError, match="option every is 1, expected 2 or more"):
        PrunetPass(every=1).check(scored)


def test_it_is_one_search_among_the_others(scored: Context) -> None:
    contest = contest_of(scored)
    search = BaselinePrunetPass(steps=20, search_batch_size=16)
    found = search.search(scored, contest, Judge(scored, Protocol(samples=80, batch_size=40)))
    assert contest.within(found.choice)
    assert search.method == "prunet"
