"""New widths for the integer program: at its own prices, only where it would take them, and the same after a stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hant import trace
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.latency.profile import ProfilePass
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.passes.searching.columns import ColumnsPass, price_of
from hant.passes.searching.records import ColumnRecord
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass
from hant.passes.selecting.table import SearchTable
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore
from scipy.optimize import linprog
from torch import nn

BUDGET = Budget.parse("0.75")
POOL = "teacher,cb_stack_3x3_ex0.0833333,cb_stack_3x3_ex1.5"
QUICK = ColumnsPass(budget=BUDGET, solutions=3, rounds=1, rungs=6, steps=40, score=ScorePass(samples=200))


def random_table(seed: int) -> SearchTable:
    random = np.random.default_rng(seed)
    ms = tuple(np.sort(random.random(5))[::-1] for _ in range(7))
    loss = tuple(np.sort(random.random(5)) for _ in range(7))
    names = tuple(f"block{index}" for index in range(7))
    return SearchTable(names, (("a", "b", "c", "d", "e"),) * 7, loss, {"ms": ms})


@pytest.mark.parametrize("seed", range(5))
def test_the_price_is_the_dual_of_the_relaxed_program(seed: int) -> None:
    table = random_table(seed)
    loss, ms = np.concatenate(table.loss), np.concatenate(table.cost["ms"])
    limit = 0.5 * sum(row.max() for row in table.cost["ms"])
    one = np.kron(np.eye(7), np.ones(5))
    found = linprog(loss, A_ub=ms[None], b_ub=[limit], A_eq=one, b_eq=np.ones(7), bounds=(0, 1))
    assert price_of(table, limit) == pytest.approx(-found.ineqlin.marginals[0], rel=1e-6)
    assert price_of(table, 100.0) == 0  # nothing is worth anything where all is within the limit


@pytest.fixture
def run(_scored_run: tuple[nn.Module, Path], tmp_path: Path, search_runs: ModuleType) -> Iterator[Context]:
    """A run of two replaceable blocks, with a narrow and a wide operation of one kind."""
    with RunStore(tmp_path / "run") as store:
        made: Context = search_runs.open_context(store, _scored_run[0], POOL)
        graph = trace(made.model, made.example_inputs, include=["layer1.1", "layer2.1"])
        made = replace(made, graph=graph)
        CandidatesPass().run(made)
        ProfilePass(keep_slower=True).run(made)
        PretrainPass(epochs=1).run(made)
        ScorePass(samples=200).run(made)
        yield made


def test_widths_are_added_that_the_program_would_take(run: Context) -> None:
    store = run.store
    SelectPass(budget=BUDGET, solutions=3).run(run)
    before = store.all(SelectionRecord)["000"].objective
    known = set(store.all(CandidateRecord))
    notes = QUICK.run(run).notes
    found = list(store.all(ColumnRecord).values())
    assert len(found) == 2  # a ladder in each block
    new = {f"{record.block}/{record.operation}" for record in found if record.reduced < 0}
    assert set(store.all(CandidateRecord)) - known == new
    assert notes[0].startswith(f"round 1: {len(new)} new widths")
    scores = store.all(ScoreRecord)
    for key in new:
        record = store.all(CandidateRecord)[key]
        assert record.state == "ready"
        assert record.nmse is not None
        assert key in scores
        CandidateWeights(store).module(run.teacher.block(record.block), record.operation)  # its weights fit
    assert store.all(SelectionRecord)["000"].objective <= before + 1e-9
    payloads, files = store.payloads("column"), store.payloads("candidate")
    QUICK.run(run)
    assert (store.payloads("column"), store.payloads("candidate")) == (payloads, files)  # nothing is walked twice
