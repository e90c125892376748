"""Evaluation batch by batch against the plain evaluation, stopped and resumed."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hant.passes.networks.assemble import CandidateWeights, build_student
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.ranking.race import finishing_order
from hant.passes.ranking.records import EvaluationRecord
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.context import Context
from hant.transformer.data.splits import split
from hant.transformer.runs.store import RunStore

SMALL = Protocol(batch_size=40)


def some_choices(context: Context, count: int, seed: int = 0) -> list[dict[str, str]]:
    table = search_table(context.store, context.teacher)
    pick = random.Random(seed)
    rows = zip(table.blocks, table.operations, strict=True)
    pairs = [(block, operations) for block, operations in rows]
    return [{block: pick.choice(operations) for block, operations in pairs} for _ in range(count)]


def test_totals_are_those_of_the_plain_evaluation(scored: Context) -> None:
    judge = Judge(scored, SMALL)
    for choice in some_choices(scored, 3):
        totals = judge.totals(choice)
        student = build_student(scored.teacher, choice, CandidateWeights(scored.store))
        plain = evaluate(student.module, split(scored.dataset, scored.seed).held_out)
        assert totals.mean("loss") == pytest.approx(plain.loss, rel=1e-5)
        assert totals.accuracy == pytest.approx(plain.accuracy)


def test_the_teacher_differs_from_itself_by_nothing(scored: Context) -> None:
    totals = Judge(scored, SMALL).totals(dict.fromkeys((b.name for b in scored.teacher.replaceable), "teacher"))
    assert totals.sums["kl"] == 0
    assert totals.sums["feature_mse"] == 0


def test_stopped_at_any_batch_and_resumed_gives_the_same_bits(scored: Context, tmp_path: Path) -> None:
    choice = some_choices(scored, 1)[0]
    entry = Judge(scored, SMALL).entry(0, choice, "loss")
    entry.advance()
    entry.advance()
    resumed = Judge(scored, SMALL).totals(choice)
    with RunStore(tmp_path / "other") as other:
        for key, record in scored.store.all(CandidateRecord).items():
            other.put(key, record)
        (tmp_path / "other" / "candidates").symlink_to(scored.store.path("candidates"))
        whole = Judge(replace(scored, store=other), SMALL).totals(choice)
    assert resumed == whole


def test_a_finished_network_is_not_run_again(scored: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = some_choices(scored, 1)[0]
    first = Judge(scored, SMALL).totals(choice)
    monkeypatch.setattr(Judge, "run", None)
    assert Judge(scored, SMALL).totals(choice) == first


def test_key_follows_protocol_and_training(scored: Context) -> None:
    choice = some_choices(scored, 1)[0]
    first = Judge(scored, SMALL).key(choice)
    assert Judge(scored, replace(SMALL, recalibrate=True)).key(choice) != first
    assert Judge(scored, replace(SMALL, samples=50)).key(choice) != first
    key = next(f"{b}/{op}" for b, op in choice.items())
    record = scored.store.get(CandidateRecord, key)
    assert record is not None
    scored.store.put(key, record.model_copy(update={"recipe": "another"}))
    assert Judge(scored, SMALL).key(choice) != first


@pytest.mark.parametrize("measure", ["loss", "wrong", "kl", "feature_mse"])
@pytest.mark.parametrize("doubt", [None, 5.0])
def test_the_winner_of_a_race_is_the_winner_without(scored: Context, measure: str, doubt: float | None) -> None:
    choices = some_choices(scored, 8, seed=3)
    judge = Judge(scored, SMALL)
    raced = next(finishing_order([judge.entry(i, choice, measure, doubt) for i, choice in enumerate(choices)]))
    stopped = sum(not record.complete for record in scored.store.all(EvaluationRecord).values())
    sums = [judge.totals(choice).sums[measure] for choice in choices]
    assert raced.index == sums.index(min(sums))
    assert stopped > 0


def test_recalibration_leaves_shared_parts_alone_and_lowers_the_loss(scored: Context) -> None:
    choice = some_choices(scored, 1)[0]
    before = {name: tensor.clone() for name, tensor in scored.teacher.module.state_dict().items()}
    plain = Judge(scored, SMALL).totals(choice)
    again = Judge(scored, replace(SMALL, recalibrate=True)).totals(choice)
    assert again.mean("loss") < plain.mean("loss")
    assert all(torch.equal(tensor, before[name]) for name, tensor in scored.teacher.module.state_dict().items())
