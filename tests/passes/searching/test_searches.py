"""Every search on the same small run: within the limits, resumable to the bit, better than nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.ranking.records import EvaluationRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.searching.base import BaselinePass, baseline_record, best_of, contest_for, search_file
from hant.passes.searching.contest import Contest
from hant.passes.searching.greedy import GreedyPass
from hant.passes.searching.random_search import RandomPass
from hant.passes.searching.reinforce import ReinforcePass
from hant.passes.searching.snas import SnasPass, expected_excess
from hant.passes.searching.uniform import UniformSampler
from hant.passes.selecting.select import SelectPass
from hant.passes.selecting.table import SearchTable, search_table
from hant.transformer.contracts.budget import Budget, Limit
from hant.transformer.contracts.context import Context
from hant.transformer.errors import InfeasibleError

SEARCHES = [
    RandomPass(networks=12),
    GreedyPass(),
    SnasPass(steps=4, search_batch_size=16),
    ReinforcePass(steps=8, finalists=4),
]
SMALL = Protocol(samples=80, batch_size=40)


def contest_of(context: Context, share: float = 0.6) -> Contest:
    table = search_table(context.store, context.teacher)
    return Contest(table, {"ms": share * table.total("ms", table.teacher())})


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_what_is_found_is_within_the_limits_and_the_same_again(scored: Context, search: BaselinePass) -> None:
    contest = contest_of(scored)
    found = search.search(scored, contest, Judge(scored, SMALL))
    again = search.search(scored, contest, Judge(scored, SMALL))
    assert contest.within(found.choice)
    assert (found.choice == again.choice).all()
    record = baseline_record(search.name, Budget(Limit(0.6, True)), contest, Judge(scored, SMALL), found, 1.0)
    assert record.cost["ms"] <= record.limits["ms"]
    assert record.samples == 80


@pytest.mark.parametrize(("kind", "options"), [(SnasPass, {"search_batch_size": 8}), (ReinforcePass, {"finalists": 3})])
def test_a_search_that_is_stopped_goes_on_to_the_same_bits(
    scored: Context,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[SnasPass] | type[ReinforcePass],
    options: dict[str, Any],
) -> None:
    contest = contest_of(scored)
    monkeypatch.setattr("hant.passes.searching.checkpoint._SAVE_EVERY", 2)
    search = kind(steps=6, **options)
    step, calls = kind._step, []

    def stopping(self: Any, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(kind, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        search.search(scored, contest, Judge(scored, SMALL))
    search.search(scored, contest, Judge(scored, SMALL))
    assert len(calls) == 4 + 4  # begins again behind step 2, the last that was kept
    file = next(scored.store.path("checkpoints").iterdir())
    resumed = scored.store.load_tensors(f"checkpoints/{file.name}")
    file.unlink()
    monkeypatch.setattr(kind, "_step", step)
    search.search(scored, contest, Judge(scored, SMALL))
    whole = scored.store.load_tensors(f"checkpoints/{file.name}")
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items() if name != "clock")


def test_random_search_finds_the_best_of_its_samples(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, SMALL)
    choices = UniformSampler(contest, 3).distinct(8)
    raced = best_of(contest, judge, choices, all_images=False)
    stopped = [record for record in scored.store.all(EvaluationRecord).values() if not record.complete]
    whole = best_of(contest, judge, choices, all_images=True)
    assert (raced.choice == whole.choice).all()
    assert stopped
    assert len(whole.losses) == 8
    assert min(whole.losses) == judge.totals(contest.table.choice(whole.choice)).mean("loss")


def test_expected_excess_follows_the_probabilities(scored: Context) -> None:
    contest = contest_of(scored, 0.5)
    teacher = [torch.eye(len(row))[0] for row in contest.table.loss]
    fastest = [torch.eye(len(row))[int(np.argmin(row))] for row in contest.table.cost["ms"]]
    assert expected_excess(contest, teacher).item() == pytest.approx(1.0, rel=1e-5)
    assert expected_excess(contest, fastest).item() == 0


def test_a_controller_that_never_keeps_the_budget_is_told(scored: Context) -> None:
    table = search_table(scored.store, scored.teacher)
    contest = Contest(table, {"ms": 1e-9})
    search = ReinforcePass(steps=1, finalists=1)
    with pytest.raises(InfeasibleError, match=r"has not learned to keep budget 0\.45 in 1 steps"):
        search.search(scored, contest, Judge(scored, SMALL))


def test_a_limit_is_settled_anew_where_the_table_has_changed(scored: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[SearchTable] = []

    def settle(context: Context, table: SearchTable, options: SelectPass) -> tuple[float, tuple[str, ...]]:
        settled.append(table)
        return float(len(settled)), ()

    monkeypatch.setattr("hant.passes.searching.base.settle", settle)
    budget = Budget.parse("0.9")
    assert [contest_for(scored, budget).limits["ms"] for _ in range(2)] == [1, 1]
    key, score = next(item for item in scored.store.all(ScoreRecord).items() if item[1].operation != "teacher")
    scored.store.put(key, score.model_copy(update={"delta": score.delta + 1}))
    try:
        assert [contest_for(scored, budget).limits["ms"] for _ in range(2)] == [2, 2]
    finally:
        scored.store.put(key, score)


def test_a_search_goes_on_with_the_same_candidates_only(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, SMALL)
    file = search_file(scored, contest, judge, "snas", [1.0])
    assert search_file(scored, contest, judge, "snas", [1.0]) == file
    assert search_file(scored, contest, judge, "snas", [2.0]) != file
    key, record = next(item for item in scored.store.all(CandidateRecord).items() if item[1].file)
    scored.store.put(key, record.model_copy(update={"recipe": "another"}))
    try:
        assert search_file(scored, contest, judge, "snas", [1.0]) != file
    finally:
        scored.store.put(key, record)
