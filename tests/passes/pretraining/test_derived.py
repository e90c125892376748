"""Candidates that begin with the weights of the block that they imitate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hant.op_library.pools import operation
from hant.passes.candidates.build import build_candidate
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.trainer import Trainer
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import batches
from hant.transformer.data.splits import split
from hant.transformer.runs.store import RunStore
from torch import nn

MakeContext = Callable[..., Context]
POOL = "teacher,identity,slice_w0.5,cb_res_3x3"
COPY = PretrainPass(epochs=1, batch_size=64, derived="copy")


@pytest.fixture
def context(make_context: MakeContext, tmp_path: Path) -> Iterator[Context]:
    with RunStore(tmp_path / "run") as store:
        yield make_context(store, POOL)


def test_copied_weights_get_the_statistics_of_the_teachers_features(context: Context) -> None:
    COPY.run(context)
    block = context.teacher.block("two")
    module = CandidateWeights(context.store).module(block, "slice_w0.5")
    start = build_candidate(block, operation("slice_w0.5"), 0)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, start.get_parameter(name)), name
    inputs: list[torch.Tensor] = []
    with (
        context.teacher.observe(lambda found, x, _: inputs.append(x) if found.name == "two" else None),
        torch.no_grad(),
    ):
        for images, _ in batches(split(context.dataset, context.seed).fit, 256):
            context.teacher.module(images)
        features = [start.get_submodule("conv")(x) for x in inputs]
    expected = torch.stack([x.mean((0, 2, 3)) for x in features]).mean(0)
    torch.testing.assert_close(module.get_buffer("norm.running_mean"), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(module.get_buffer("norm.running_mean"), start.get_buffer("norm.running_mean"))
    record = context.store.get(CandidateRecord, "two/slice_w0.5")
    assert record is not None
    assert (record.state, record.steps, bool(record.file)) == ("ready", 0, True)
    trained = context.store.get(CandidateRecord, "two/cb_res_3x3")
    assert trained is not None
    assert trained.steps > 0


def test_trained_slices_come_nearer_and_both_are_kept_apart(context: Context) -> None:
    COPY.run(context)
    copied = context.store.all(CandidateRecord)
    replace(COPY, derived="train").run(context)
    trained = context.store.all(CandidateRecord)
    for block in ("one", "two", "three"):
        before, after = copied[f"{block}/slice_w0.5"], trained[f"{block}/slice_w0.5"]
        assert before.nmse is not None
        assert after.nmse is not None
        assert after.nmse < before.nmse < 1
        assert before.recipe != after.recipe
        assert copied[f"{block}/cb_res_3x3"] == trained[f"{block}/cb_res_3x3"]


def test_only_what_is_made_of_another_structure_is_made_again(context: Context) -> None:
    COPY.run(context)
    before = {key: context.store.path(r.file).stat().st_mtime_ns for key, r in _files(context).items()}
    changed = replace(context.teacher.block("one"), signature="another")
    blocks = tuple(changed if block.name == "one" else block for block in context.teacher.blocks)
    COPY.run(replace(context, graph=replace(context.teacher, blocks=blocks)))
    after = {key: context.store.path(r.file).stat().st_mtime_ns for key, r in _files(context).items()}
    assert {key for key in after if after[key] != before[key]} == {"one/slice_w0.5"}


def _files(context: Context) -> dict[str, CandidateRecord]:
    return {key: record for key, record in context.store.all(CandidateRecord).items() if record.file}


def test_a_rung_on_the_way_keeps_the_statistics(context: Context, make_context: MakeContext, tmp_path: Path) -> None:
    COPY.run(context)
    block = context.teacher.block("two")
    with RunStore(tmp_path / "halving") as store:
        replace(COPY, halving=1).run(make_context(store, POOL))
        plain, found = (CandidateWeights(s).module(block, "slice_w0.5").state_dict() for s in (context.store, store))
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.items())


def test_dropout_of_the_users_block_rests_while_it_imitates() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    trainer = Trainer("block", "slice_w0.5", module, resolve(100, 0), derived=True)
    trainer.begin()
    assert [part.training for part in module] == [False, True, False]
    plain = Trainer("block", "cb_res_3x3", module, resolve(100, 0))
    plain.begin()
    assert all(part.training for part in module)
