"""The table against the records it is made of."""

import numpy as np
import pytest
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.records import LatencyRecord
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.context import Context
from hant.transformer.errors import UsageError


def test_every_entry_is_that_of_its_records(scored: Context) -> None:
    table = search_table(scored.store, scored.teacher)
    assert table.blocks == tuple(block.name for block in scored.teacher.replaceable)
    for place, (block, operations) in enumerate(zip(table.blocks, table.operations, strict=True)):
        assert operations[0] == "teacher"
        assert list(operations[1:]) == sorted(operations[1:])
        for column, operation in enumerate(operations):
            key = f"{block}/{operation}"
            facts, score = scored.store.get(OperationRecord, key), scored.store.get(ScoreRecord, key)
            assert facts is not None
            assert score is not None
            assert table.loss[place][column] == score.delta
            latency = scored.store.get(LatencyRecord, facts.latency_key)
            assert latency is not None
            assert table.cost["ms"][place][column] == latency.timing.ms
            assert table.cost["params"][place][column] == facts.parameters
            assert table.cost["macs"][place][column] == facts.macs
            assert table.cost["memory"][place][column] == 4 * facts.parameters


def test_choices_and_indices_are_each_others_inverse(scored: Context) -> None:
    table = search_table(scored.store, scored.teacher)
    rng = np.random.default_rng(0)
    for _ in range(20):
        indices = np.array([rng.integers(len(operations)) for operations in table.operations])
        assert (table.indices(table.choice(indices)) == indices).all()
    assert table.choice(table.indices(table.teacher())) == table.teacher()
    fastest = table.total("ms", table.choice(table.fastest()))
    assert fastest == pytest.approx(sum(row.min() for row in table.cost["ms"]))


@pytest.mark.parametrize("state", ["failed", "dropped"])
def test_what_is_not_ready_cannot_be_chosen(scored: Context, state: str) -> None:
    key = "layer1.1/identity"
    record = scored.store.get(CandidateRecord, key)
    assert record is not None
    scored.store.put(key, record.model_copy(update={"state": state}))
    table = search_table(scored.store, scored.teacher)
    assert "identity" not in table.operations[table.blocks.index("layer1.1")]


def test_a_block_without_scores_is_named(scored: Context) -> None:
    for key, record in scored.store.all(ScoreRecord).items():
        if record.block == "layer2.0":
            scored.store.delete(ScoreRecord, key)
    with pytest.raises(UsageError, match=r"no operation can be chosen for layer2\.0: none is scored"):
        search_table(scored.store, scored.teacher)
