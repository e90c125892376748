from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.op_library.op_spec import OpSpec
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.candidates.records import OperationRecord
from hant.passes.pretraining.engine import measure
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.trainer import Trainer
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import nn

MakeContext = Callable[..., Context]

QUICK = PretrainPass(epochs=1, batch_size=64)


class Explosive(OpSpec):
    """Gives numbers that are none."""

    family = "explosive"
    name = "explosive"

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        return None if input == output else "shapes differ"

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        layer = nn.Conv2d(input.channels, output.channels, 1)
        nn.init.constant_(layer.weight, math.nan)
        return layer


class Hungry(OpSpec):
    """Needs more memory than there is."""

    family = "hungry"
    name = "hungry"

    def unfit(self, input: TensorSpec, output: TensorSpec) -> str | None:
        return None

    def _build(self, input: TensorSpec, output: TensorSpec) -> nn.Module:
        layer = nn.Conv2d(input.channels, output.channels, 1)
        layer.register_forward_hook(_exhaust)
        return layer


def _exhaust(*_: object) -> None:
    raise torch.OutOfMemoryError("tried to allocate 9 TiB")


def weights(store: RunStore) -> dict[str, torch.Tensor]:
    return {
        f"{key}:{name}": tensor
        for key, record in store.all(CandidateRecord).items()
        if record.file
        for name, tensor in store.load_tensors(record.file).items()
    }


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_every_fitting_candidate_is_ready_and_better_than_nothing(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store)
        PretrainPass(epochs=3, batch_size=32).run(context)
        records = store.all(CandidateRecord)
        fitting = {key for key, record in store.all(OperationRecord).items() if record.fits}
        assert records.keys() == fitting
        assert "two/identity" not in records
        assert {record.state for record in records.values()} == {"ready"}
        assert (records["one/teacher"].nmse, records["one/teacher"].file) == (0, "")
        assert not records["one/identity"].file
        for block in ("one", "three"):
            trained, bare = (records[f"{block}/{name}"].nmse for name in ("cb_stack_3x3_ex0.5", "identity"))
            assert trained is not None
            assert bare is not None
            assert trained < bare


def test_weights_do_not_depend_on_grouping_or_workers(tmp_path: Path, make_context: MakeContext) -> None:
    found = []
    for in_flight, workers in ((1, 1), (2, 3), (99, 2)):
        with RunStore(tmp_path / str(in_flight)) as store:
            PretrainPass(epochs=1, batch_size=64, in_flight=in_flight, workers=workers).run(make_context(store))
            found.append(weights(store))
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


def test_a_part_of_the_pool_gives_the_same_weights_as_the_whole(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path / "all") as store:
        QUICK.run(make_context(store))
        whole = weights(store)
    with RunStore(tmp_path / "part") as store:
        QUICK.run(make_context(store, "efn_3x3_e3_se1.00,cb_res_3x3"))
        part = weights(store)
    assert part
    assert equal(part, {name: whole[name] for name in part})


def test_seed_changes_the_weights(tmp_path: Path, make_context: MakeContext) -> None:
    found = []
    for seed in (0, 1):
        with RunStore(tmp_path / str(seed)) as store:
            QUICK.run(make_context(store, "cb_res_3x3", seed=seed))
            found.append(weights(store))
    assert not equal(found[0], found[1])


def test_finished_candidates_are_not_trained_again(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store)
        QUICK.run(context)
        before, first = weights(store), store.all(CandidateRecord)
        store.delete(CandidateRecord, "one/cb_res_3x3")
        QUICK.run(context)
        after = store.all(CandidateRecord)
        assert equal(before, weights(store))
        assert {key for key in after if after[key].seconds != first[key].seconds} == {"one/cb_res_3x3"}


def test_another_recipe_trains_anew(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "cb_res_3x3")
        QUICK.run(context)
        before = weights(store)
        PretrainPass(epochs=2, batch_size=64).run(context)
        assert not equal(before, weights(store))


def test_dropped_candidates_are_left_alone(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "cb_res_3x3")
        dropped = CandidateRecord(block="one", operation="cb_res_3x3", state="dropped", reason="slower")
        store.put("one/cb_res_3x3", dropped)
        QUICK.run(context)
        assert store.get(CandidateRecord, "one/cb_res_3x3") == dropped
        assert store.count("candidate") == 3


def test_a_candidate_that_is_no_number_is_failed_with_its_reason(
    tmp_path: Path, make_context: MakeContext, small_graph: Graph
) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "cb_res_3x3")
        for name in ("one", "three"):
            store.put(f"{name}/explosive", OperationRecord(block=name, operation="explosive", fits=True))

        QUICK.run(replace(context, pool=(*context.pool, Explosive())))
        record, other = (store.get(CandidateRecord, f"one/{name}") for name in ("explosive", "cb_res_3x3"))
        assert record is not None
        assert other is not None
        assert (record.state, record.nmse, record.file) == ("failed", None, "")
        assert re.match(r"loss is (nan|inf) at step \d+ of", record.reason)
        assert other.state == "ready"


def test_out_of_memory_halves_the_group_and_fails_only_what_does_not_fit(
    tmp_path: Path, make_context: MakeContext
) -> None:
    with RunStore(tmp_path / "plain") as store:
        QUICK.run(make_context(store))
        expected = weights(store)
    with RunStore(tmp_path / "hungry") as store:
        context = make_context(store)
        store.put("one/hungry", OperationRecord(block="one", operation="hungry", fits=True))
        QUICK.run(replace(context, pool=(*context.pool, Hungry())))
        record = store.get(CandidateRecord, "one/hungry")
        assert record is not None
        assert record.state == "failed"
        assert record.reason == "out of memory in training it alone: tried to allocate 9 TiB"
        assert equal(expected, weights(store))


def test_blocks_share_the_work(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store:
        context = make_context(store, "cb_res_3x3")
        replace(QUICK, blocks=("t*",)).run(context)
        assert store.all(CandidateRecord).keys() == {"two/cb_res_3x3", "three/cb_res_3x3"}
        QUICK.run(context)
        assert store.count("candidate") == 3


def test_the_error_is_that_of_plain_tensors(small_graph: Graph, make_context: MakeContext, tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        test = make_context(store).dataset.test
    assert isinstance(test, ImageTensors)
    block = small_graph.block("three")
    recipe = resolve(100, 0)
    trainer = Trainer("three", "cb_res_3x3", operation("cb_res_3x3").build(block.input, block.output), recipe)
    found = measure(small_graph, [trainer], test, 50, torch.device("cpu"))
    features = []
    with torch.no_grad(), small_graph.observe(lambda b, x, y: features.append((b.name, x, y))):
        small_graph.module(test.images)
    x, y = next((x, y) for name, x, y in features if name == "three")
    with torch.no_grad():
        expected = nn.functional.mse_loss(trainer.module(x), y) / y.var(correction=0)
    assert found["three", "cb_res_3x3"] == pytest.approx(expected.item(), rel=1e-5)


def test_teacher_is_untouched(tmp_path: Path, make_context: MakeContext, small_graph: Graph) -> None:
    before = {name: tensor.clone() for name, tensor in small_graph.module.state_dict().items()}
    with RunStore(tmp_path) as store:
        QUICK.run(make_context(store))
    assert equal(before, small_graph.module.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "paper-b3"}, "unknown pretraining preset 'paper-b3'; did you mean"),
        ({"epochs": 0}, "pretraining epochs are 0, expected more than 0"),
        ({"batch_size": 1}, "pretraining on batches of 1 images, expected at least 2"),
    ],
)
def test_wrong_options_say_what_is_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve(100, 0, **changes)


def test_paper_presets_take_one_epoch_at_the_paper_s_rate() -> None:
    recipe = resolve(1_281_167, 0, "paper-b2")
    assert (recipe.steps, recipe.rate(0), recipe.rate(9999), recipe.loss) == (10009, 0.008, 0.008, "mse")
