"""Ranking on a small run: the winner is the same with and without racing, and is inside the budget."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hant.passes.candidates.records import OperationRecord
from hant.passes.finetuning.align import AlignPass
from hant.passes.ranking.rank import RankPass
from hant.passes.ranking.records import EvaluationRecord, FinalistRecord, RankRecord, WinnerRecord
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.errors import InfeasibleError, UsageError

BUDGET = Budget.parse("0.8")


@pytest.fixture
def selected(profiled: Context) -> Context:
    SelectPass(budget=BUDGET, solutions=6).run(profiled)
    return profiled


def add_hopeless(context: Context) -> None:
    """Put the network of the smallest operations in the last selection's place: no racing needs all of its images.

    What selection finds follows from measured times; whether any of it is hopeless, too.
    """
    last = max(context.store.all(SelectionRecord).values(), key=lambda record: record.index)
    smallest = {}
    for block in last.choice:
        fitting = [r for r in context.store.all(OperationRecord).values() if r.block == block and r.fits]
        smallest[block] = min(fitting, key=lambda record: (record.macs, record.parameters)).operation
    context.store.put(f"{last.index:03d}", last.model_copy(update={"choice": smallest}))


def test_racing_has_the_winner_of_the_full_evaluation(selected: Context) -> None:
    store = selected.store
    add_hopeless(selected)
    found = {}
    for race in ("certain", "confident", "off"):
        store.delete(EvaluationRecord)
        RankPass(race=race, budget=BUDGET, batch_size=32).run(selected)
        found[race] = store.get(WinnerRecord, "winner"), store.all(RankRecord)
    assert found["certain"][0] == found["confident"][0] == found["off"][0]
    full, raced = found["off"][1], found["certain"][1]
    assert all(record.complete for record in full.values())
    assert any(not record.complete for record in raced.values())
    winner = found["off"][0]
    assert winner is not None
    assert winner.measured_ms <= 0.8 * winner.teacher_ms
    assert raced[f"{winner.index:03d}"] == full[f"{winner.index:03d}"]
    assert all(record.kl is not None and record.feature_mse is not None for record in full.values())


def test_nothing_is_evaluated_twice(selected: Context) -> None:
    RankPass(budget=BUDGET).run(selected)
    before = selected.store.all(EvaluationRecord)
    RankPass(budget=BUDGET).run(selected)
    assert selected.store.all(EvaluationRecord) == before


def test_metric_decides_the_winner(selected: Context) -> None:
    store = selected.store
    RankPass(budget=Budget.parse("1.0"), race="off").run(selected)
    measures: dict[str, Callable[[RankRecord], Any]] = {
        "accuracy": lambda r: -r.accuracy,
        "kl": lambda r: r.kl,
        "feature-mse": lambda r: r.feature_mse,
    }
    for metric, value in measures.items():
        RankPass(budget=Budget.parse("1.0"), race="off", metric=metric).run(selected)
        ranks = store.all(RankRecord).values()
        winner = store.get(WinnerRecord, "winner")
        assert winner is not None
        assert winner.index == min((value(record), record.index) for record in ranks)[1]


def test_finalists_are_aligned_once_and_the_best_of_them_wins(selected: Context) -> None:
    rank = RankPass(budget=Budget.parse("1.0"), finalists=2, finalist_steps=20)
    rank.run(selected)
    tuned = selected.store.all(FinalistRecord)
    winner = selected.store.get(WinnerRecord, "winner")
    assert winner is not None
    assert len(tuned) == 2
    assert winner.choice == min(tuned.values(), key=lambda record: record.loss).choice
    ranks = selected.store.all(RankRecord).values()
    assert sum(record.finetuned_accuracy is not None for record in ranks) == 2
    rank.run(selected)
    assert selected.store.all(FinalistRecord) == tuned
    replace(rank, align=AlignPass(teacher_share=0.0)).run(selected)
    assert len(selected.store.all(FinalistRecord)) == 4  # other options of align, other finalists


def test_no_selection_inside_the_budget_is_told(selected: Context) -> None:
    with pytest.raises(InfeasibleError, match=r"none of the \d selections is inside budget 0\.01 when measured"):
        RankPass(budget=Budget.parse("0.01")).run(selected)
    assert selected.store.get(WinnerRecord, "winner") is None


@pytest.mark.parametrize(("options", "text"), [
    ({"metric": "cross-entrpy"}, "unknown metric 'cross-entrpy'; did you mean 'cross-entropy'?"),
    ({"race": "sure"}, "unknown race 'sure'; "),
])  # fmt: skip
def test_unknown_options_are_told(scored: Context, options: dict[str, Any], text: str) -> None:
    choice = {block.name: "teacher" for block in scored.teacher.replaceable}
    scored.store.put("000", SelectionRecord(index=0, choice=choice, objective=0, bound=0, cost={}, predicted_ms=1))
    with pytest.raises(UsageError) as error:
        RankPass(**options).run(scored)
    assert text in str(error.value)
