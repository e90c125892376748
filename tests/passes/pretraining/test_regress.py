from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hant.op_library.pools import operation, pool
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.records import LatencyRecord
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.regress import predicted, spread
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import UsageError
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]
FAMILY = [("one", operation(f"cb_stack_{k}x{k}_ex{width}")) for k in (3, 5, 7) for width in (0.25, 0.5, 1.0, 2.0)]


def test_a_sample_is_spread_over_the_hyperparameters() -> None:
    found = {spec.name for _, spec in spread(FAMILY, 5)}
    corners = {f"cb_stack_{k}x{k}_ex{width}" for k in (3, 7) for width in (0.25, "2.0")}
    assert len(found) == 5
    assert corners <= found


def test_each_block_and_family_has_a_sample_and_small_families_are_taken_whole() -> None:
    others = [("two", spec) for _, spec in FAMILY] + [("one", spec) for spec in pool("teacher,identity")]
    found = spread([*FAMILY, *others], 4)
    assert [sum(block == name for block, _ in found) for name in ("one", "two")] == [4 + 2, 4]
    assert spread([*FAMILY, *others], 99) == [*FAMILY, *others]


def test_what_follows_a_power_of_the_hyperparameters_is_predicted() -> None:
    true = {f"one/{spec.name}": 0.3 * spec.kernel**-0.5 * spec.width**-1.2 for _, spec in FAMILY}  # type: ignore[attr-defined]
    known = {f"one/{spec.name}": true[f"one/{spec.name}"] for _, spec in spread(FAMILY, 5)}
    told = predicted(known, FAMILY)
    assert told.keys() == true.keys() - known.keys()
    assert all(math.isclose(value, true[key], rel_tol=0.05) for key, value in told.items())


def test_nothing_is_predicted_from_other_blocks_or_families() -> None:
    assert predicted({"two/cb_stack_3x3_ex0.5": 0.1, "one/cb_res_3x3": 0.2}, FAMILY) == {}


NAMES = [f"cb_stack_{k}x{k}_ex{width}" for k in (3, 5) for width in (0.25, 0.5, "1.0")]


def test_untrained_ones_are_estimates_and_what_selections_would_use_is_trained(
    make_context: MakeContext, tmp_path: Path
) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, ",".join(["teacher", *NAMES]))
        for block in context.teacher.blocks:
            for place, name in enumerate(["teacher", *NAMES]):
                key = f"{block.name}/{name}"
                record = store.get(OperationRecord, key)
                ms = 1.0 if name == "teacher" else 0.4 + 0.05 * place
                timing = Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms)
                row = LatencyRecord(operation=name, input="", output="", target="t", timing=timing, provenance={})
                store.put(f"t/{key}/x", row)
                store.put(key, record.model_copy(update={"latency_key": f"t/{key}/x"}))  # type: ignore[union-attr]
        made = PretrainPass(epochs=0.2, batch_size=32, sample=2).run(context)
        records = store.all(CandidateRecord)
        guessed = {key for key, record in records.items() if record.estimated}
        trained = {key for key, record in records.items() if record.steps}
        assert guessed
        assert len(trained) >= 3 * 2
        assert guessed | trained | {f"{block.name}/teacher" for block in context.teacher.blocks} == records.keys()
        for key in guessed:
            assert records[key].state == "dropped"
            assert records[key].reason == f"predicted error {records[key].nmse:.4g}: no selection near the best uses it"
        assert made.notes[0].endswith(f"; the errors of {len(guessed)} others are predicted")
        whole = PretrainPass(epochs=0.2, batch_size=32).run(context)
        assert "predicted" not in whole.notes[0]
        assert all(not record.estimated for record in store.all(CandidateRecord).values())


def test_two_ways_of_training_less_are_refused(make_context: MakeContext, tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store, pytest.raises(UsageError, match=r"give one of them"):
        PretrainPass(sample=2, halving=1).check(make_context(store))
