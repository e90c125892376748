"""The linearised search on a small run: better than its start, within the limits, resumed to the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.searching.contest import Contest
from hant.passes.searching.effects import Effects, joined
from hant.passes.searching.linear import Linear, linear_search
from hant.passes.searching.linearise import linearise
from hant.passes.searching.propose import descend, proposals
from hant.passes.searching.race import Racing
from hant.passes.searching.records import SearchRecord
from hant.passes.selecting.table import error_table
from hant.passes.selecting.weightings import stages
from hant.transformer.contracts.context import Context

QUICK = Linear(rounds=2, images=40, race_images=80, batch_size=40, radius=2)
BATCH = Protocol(batch_size=40, statistics="batch")


def contest_of(context: Context, share: float = 0.6) -> Contest:
    table = error_table(context.store, context.teacher)
    return Contest(table, {"ms": share * table.total("ms", table.teacher())})


def test_stages_begin_where_the_shape_changes(scored: Context) -> None:
    assert stages(scored.teacher) == [0, 0, 0, 1, 1, 1]


def test_exchanges_of_the_last_block_are_exact(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    table = contest.table
    start = table.indices(table.teacher())
    indices = judge.part(0, 40)
    effects = linearise(judge, table, start, indices, "batch")
    assert effects.base.shape == (40, 10)
    real = Racing(judge, table, 40)
    assert effects.of(start) == pytest.approx(real.loss(start), abs=1e-5)
    linear = effects.exchanges(start)
    for operation in range(len(table.operations[-1])):
        choice = start.copy()
        choice[-1] = operation
        # behind the last block there are a mean and a linear layer: the first order is all
        assert linear[-1][operation] == pytest.approx(real.loss(choice), abs=1e-4)


def test_effects_are_the_slopes_of_mixing_a_candidate_in(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    table, supernet, little = contest.table, judge.supernet, 1e-2
    start = np.array([min(1, len(row) - 1) for row in table.operations])
    effects = linearise(judge, table, start, judge.part(0, 20), "running")
    images, _ = judge.sample(judge.part(0, 20))
    choice = table.choice(start)
    for place, block in enumerate(table.blocks):
        names = {name: [operation] for name, operation in choice.items()}
        other = table.operations[place][-1]
        names[block] = [choice[block], other]
        weights = {name: torch.ones(1) for name in names} | {block: torch.tensor([1 - little, little])}
        with torch.no_grad():
            mixed = supernet.mix(names, weights)(images).numpy()
        slope = (mixed - effects.base) / little
        expected = effects.changes[place][-1]
        assert np.abs(slope - expected).mean() < 0.1 * np.abs(expected).mean() + 1e-3


def test_many_classes_are_followed_in_the_largest_logits(scored: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    start = contest.table.indices(contest.table.teacher())
    indices = judge.part(0, 40)
    whole = linearise(judge, contest.table, start, indices, "batch")
    monkeypatch.setattr("hant.passes.searching.linearise.MOST_LOGITS", 5)
    monkeypatch.setattr("hant.passes.searching.linearise.TOP", 6)
    part = linearise(judge, contest.table, start, indices, "batch")
    assert part.base.shape == (40, 7)
    assert part.of(start) == pytest.approx(whole.of(start), abs=1e-5)
    ours, all_of_them = (np.concatenate(model.exchanges(start)) for model in (part, whole))
    assert np.corrcoef(ours.argsort().argsort(), all_of_them.argsort().argsort())[0, 1] > 0.9


def test_images_in_several_parts_give_the_same_with_running_statistics(
    scored: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    contest, judge = contest_of(scored), Judge(scored, replace(BATCH, statistics="running"))
    start = contest.table.indices(contest.table.teacher())
    whole = linearise(judge, contest.table, start, judge.part(0, 40), "running")
    monkeypatch.setattr("hant.passes.searching.linearise._BYTES", 1_000_000)
    parts = linearise(judge, contest.table, start, judge.part(0, 40), "running")
    for one, other in zip(whole.changes, parts.changes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_model_ranks_networks_as_they_are_on_the_statistics_of_the_batch(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    table, racing, rng = contest.table, Racing(judge, contest.table, 80), np.random.default_rng(0)
    start = table.indices(table.teacher())
    effects = linearise(judge, table, start, judge.part(80, 160), "batch")
    networks = [np.array([rng.integers(len(row)) for row in table.operations]) for _ in range(20)]
    predicted, real = (np.array([of(z) for z in networks]).argsort().argsort() for of in (effects.of, racing.loss))
    assert np.corrcoef(predicted, real)[0, 1] > 0.6


def small_effects() -> Effects:
    """Two images of two classes, three blocks; alone each exchange helps, together the first two undo each other."""
    base = np.zeros((2, 2), np.float32)
    step = np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)
    changes = [np.stack([0 * step, sign * step]) for sign in (1, 1, -1)]
    return Effects(np.zeros(3, np.int64), base, changes, np.array([0, 1]))


def test_the_model_adds_outputs_before_the_loss() -> None:
    effects = small_effects()
    assert effects.of(effects.start) == pytest.approx(np.log(2))
    both = effects.of(np.array([1, 1, 0]))
    assert both == pytest.approx(np.log1p(np.exp(-4)))
    assert effects.exchanges(np.array([1, 1, 0]))[2][1] == pytest.approx(np.log1p(np.exp(-2)))
    assert joined([effects, effects]).of(np.array([1, 1, 0])) == pytest.approx(both)


def test_what_puts_out_no_numbers_is_worse_than_anything() -> None:
    effects = small_effects()
    effects.changes[0][1] = np.nan
    assert effects.exchanges(effects.start)[0][1] == 1e9


def test_proposals_hold_the_limits_and_the_radius(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    start = contest.table.fastest()  # noise may make the best by errors the best by outputs too
    effects = linearise(judge, contest.table, start, judge.part(40, 80), "batch")
    found = proposals(contest, effects, 2)
    assert found
    assert all(contest.within(choice) for choice in found)
    assert len({tuple(choice) for choice in found}) == len(found)
    assert not any((choice == start).all() for choice in found)
    assert effects.of(descend(contest, effects, start, 1)) <= effects.of(start)


def test_a_race_has_the_best_on_all_images_and_stops_losers(scored: Context) -> None:
    contest, judge = contest_of(scored), Judge(scored, BATCH)
    rng = np.random.default_rng(0)
    choices = [np.array([rng.integers(len(row)) for row in contest.table.operations]) for _ in range(6)]
    racing, whole = Racing(judge, contest.table, 120), Racing(judge, contest.table, 120)
    losses = [whole.loss(choice) for choice in choices]
    assert racing.images == 120
    assert (racing.best(choices) == choices[int(np.argmin(losses))]).all()
    assert sum(map(len, racing._losses.values())) < 3 * len(choices)


def test_the_search_is_better_than_its_start_and_durable(scored: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    contest = contest_of(scored)
    noise = [np.random.default_rng(1).random(len(row)) for row in contest.table.loss]
    monkeypatch.setattr("hant.passes.searching.linear.weightings", lambda *_: [noise])  # a bad start
    before = {name: tensor.clone() for name, tensor in scored.teacher.module.state_dict().items()}
    trail = linear_search(scored, contest, "0.6", QUICK)
    assert trail.records[-1].loss < trail.records[0].loss
    assert all(contest.within(contest.table.indices(choice)) for choice in trail.choices)
    assert all(torch.equal(tensor, before[name]) for name, tensor in scored.teacher.module.state_dict().items())
    scored.store.delete(SearchRecord, "0.6/02")
    calls: list[Any] = []
    original = Racing.best

    def counted(self: Racing, *args: Any, **named: Any) -> Any:
        calls.append(1)
        return original(self, *args, **named)

    monkeypatch.setattr(Racing, "best", counted)
    again = linear_search(scored, contest, "0.6", QUICK)
    assert [record.model_copy(update={"seconds": 0}) for record in again.records] == [
        record.model_copy(update={"seconds": 0, "networks": again.records[i].networks})
        for i, record in enumerate(trail.records)
    ]
    assert len(calls) == len(trail.records) - 2  # the rounds before it are not run again
    other = linear_search(scored, contest, "0.6", replace(QUICK, images=30))
    assert other.records[0].recipe != trail.records[0].recipe
