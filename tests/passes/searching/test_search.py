"""The pass: selections without scores, the first measured inside the budget, taken by ranking as any others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.measure import measure_network
from hant.passes.ranking.rank import RankPass
from hant.passes.ranking.records import RankRecord, WinnerRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.searching.contest import Contest, Ints
from hant.passes.searching.records import SearchRecord
from hant.passes.searching.search import SearchPass
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass, used_share
from hant.passes.selecting.table import Floats, SearchTable, error_table
from hant.passes.selecting.weightings import stages, weighted
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.pass_ import Work
from hant.transformer.errors import UsageError
from hant.transformer.runs.records import PassRecord

BUDGET = Budget.parse("0.8")
QUICK = SearchPass(budget=BUDGET, solutions=4, rounds=1, images=40, race_images=60, batch_size=60)


def test_its_work_is_told_before_it_begins(scored: Context) -> None:
    work, macs = QUICK.work(scored), scored.teacher.macs
    fitting = sum(record.fits for record in scored.store.all(OperationRecord).values())
    assert work.what == f"1 rounds at most of {fitting} candidates x 40 images and 12 networks x 60 images"
    assert (40 * 11 + 9 * 60) * macs < work.macs < (40 * (11 + fitting) + 9 * 60) * macs
    assert replace(QUICK, rounds=3).work(scored).macs == pytest.approx(3 * work.macs)
    assert replace(QUICK, search="errors").work(scored) == Work()


def test_it_needs_no_scores_and_ends_in_selections_that_ranking_takes(profiled: Context) -> None:
    store = profiled.store
    store.delete(ScoreRecord)
    store.put("select", PassRecord(fingerprint="x", options={}, seconds=1.0))
    notes = QUICK.run(profiled).notes
    records = list(store.all(SelectionRecord).values())
    found = list(store.all(SearchRecord).values())
    assert records[0].choice == found[-1].choice
    assert [record.index for record in records] == list(range(len(records)))
    assert len({tuple(record.choice.items()) for record in records}) == len(records) == 4
    assert used_share(measure_network(profiled, records[0].choice), BUDGET) <= 1
    assert all(record.bound <= record.objective for record in records)
    assert "CPU-seconds; 4 selections" in notes[-1]
    assert store.get(PassRecord, "select") is None  # what it had made is gone
    RankPass(budget=BUDGET, batch_size=60).run(profiled)
    winner = store.get(WinnerRecord, "winner")
    assert winner is not None
    assert winner.choice in [record.choice for record in records]
    assert store.count(RankRecord.kind) == 4


def test_the_program_on_errors_has_the_least_weighted_error_of_all_networks_as_fast(profiled: Context) -> None:
    profiled.store.delete(ScoreRecord)
    SearchPass(search="errors", budget=BUDGET, solutions=3).run(profiled)
    records = list(profiled.store.all(SelectionRecord).values())
    assert used_share(measure_network(profiled, records[0].choice), BUDGET) <= 1
    table = error_table(profiled.store, profiled.teacher)
    loss = weighted(table.loss, stages(profiled.teacher))
    sums = {
        indices: sum(row[i] for row, i in zip(loss, indices, strict=True))
        for indices in product(*(range(len(row)) for row in table.operations))
        if table.total("ms", table.choice(np.array(indices))) <= records[0].cost["ms"]
    }
    assert records[0].objective == pytest.approx(min(sums.values()), abs=1e-12)
    assert sums[tuple(table.indices(records[0].choice).tolist())] == pytest.approx(records[0].objective)
    assert len({tuple(record.choice.items()) for record in records}) == len(records)


@dataclass
class Found:
    """A search that came to the optimum of the table's own losses."""

    table: SearchTable
    choices: list[dict[str, str]]
    weights: None = None
    told: str = ""

    def exchanges(self, choice: Ints) -> tuple[Floats, ...]:
        return self.table.loss


@pytest.mark.parametrize("used", [0.7, 0.99])
def test_room_that_the_result_leaves_is_filled_near_it(profiled: Context, used: float) -> None:
    table = error_table(profiled.store, profiled.teacher)
    limit = 0.6 * table.total("ms", table.teacher())
    contest = Contest(table, {"ms": limit})
    result = contest.best(table.loss)
    way = Found(table, [table.choice(result)])
    first, *others = SearchPass(budget=BUDGET, solutions=8)._records(profiled, contest, way, used)
    assert first.choice == way.choices[0]
    fuller = [record for record in others if record.cost["ms"] > limit]
    assert bool(fuller) == (used < 0.98)
    assert fuller == others[: len(fuller)]  # ranking meets them first
    for record in fuller:
        assert record.cost["ms"] <= limit / used
        assert record.objective < first.objective
        assert sum(record.choice[block] != first.choice[block] for block in first.choice) <= 4


def test_errors_of_early_stages_weigh_more() -> None:
    rows = [np.array([0.0, 0.2]), np.array([0.0, 0.1]), np.array([0.0, 0.1])]
    assert [row[1] for row in weighted(rows, [0, 0, 2])] == pytest.approx([0.2, 0.1, 0.049])


def test_the_papers_engine_is_what_select_does(profiled: Context) -> None:
    SearchPass(search="ilp", budget=BUDGET, solutions=3).run(profiled)
    ours = profiled.store.all(SelectionRecord)
    SelectPass(budget=BUDGET, solutions=3).run(profiled)
    assert {key: record.choice for key, record in profiled.store.all(SelectionRecord).items()} == {
        key: record.choice for key, record in ours.items()
    }
    profiled.store.delete(ScoreRecord)
    with pytest.raises(UsageError, match="none is scored; run: hant-opt score RUN"):
        SearchPass(search="ilp", budget=BUDGET).run(profiled)
