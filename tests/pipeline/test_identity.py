from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hant.passes.candidates.records import OperationRecord
from hant.transformer.capture.trace import trace
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import UsageError
from hant.transformer.runs.identity import check_identity
from hant.transformer.runs.records import RunRecord
from torch import nn


def data(name: str) -> Data:
    part = ImageTensors(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.long))
    return Data(part, part, name=name)


@pytest.fixture
def worked(context: Context) -> Context:
    context = replace(context, data=data("digits"))
    check_identity(context)
    context.store.put("a/b", OperationRecord(block="a", operation="b", fits=True))
    return context


def test_the_same_again_is_welcome(worked: Context) -> None:
    check_identity(worked)
    check_identity(replace(worked, target=worked.target.model_copy(update={"batch_size": 8}), pool=worked.pool[:1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: replace(c, seed=3),
            r"made with another seed \(seed: 0 then, 3 now\); give a new --output",
        ),
        (lambda c: replace(c, data=data("other")), r"made with another data \(data: digits then, other now\)"),
        (lambda c: replace(c, model=nn.Conv2d(1, 1, 1)), r"made with another model \(its weights or structure\)"),
        (
            lambda c: replace(c, seed=3, example_inputs=(torch.zeros(2, 1, 8, 8),)),
            r"another input shape and seed \(input shape: 1x4x4 then, 1x8x8 now; seed: 0 then, 3 now\)",
        ),
    ],
)
def test_a_difference_is_named(worked: Context, change: Callable[[Context], Context], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_identity(change(worked))


def test_data_of_the_same_name_are_known_by_their_content(worked: Context) -> None:
    other = data("digits")
    other.train.labels[1] = 1  # type: ignore[attr-defined]
    for changed in (other, Data(ImageTensors(torch.ones(2, 1, 4, 4), torch.zeros(2).long()), data("x").test, "digits")):
        with pytest.raises(
            UsageError, match=r"another data \(other images or labels under the same name digits; a fun"
        ):
            check_identity(replace(worked, data=changed))
    check_identity(replace(worked, data=data("digits")))


def test_what_the_teacher_computes_counts_beside_its_weights(worked: Context) -> None:
    graphs = [trace(net, worked.example_inputs) for net in (worked.model, worked.model, copy.deepcopy(worked.model))]
    graphs[2].network[1][1].stride = (2, 2)  # type: ignore[index]
    graphs[2] = trace(graphs[2].network, worked.example_inputs)
    check_identity(replace(worked, graph=graphs[0]))
    check_identity(replace(worked, graph=graphs[1]))
    with pytest.raises(
        UsageError, match=r"another model \(the code of its forward, or settings .*\); give a new --outp"
    ):
        check_identity(replace(worked, graph=graphs[2]))


def test_a_run_of_an_earlier_version_takes_the_content_of_the_next_command(worked: Context) -> None:
    record = worked.store.get(RunRecord, "run")
    assert record is not None
    assert record.content
    worked.store.put("run", record.model_copy(update={"content": "", "looks": (), "structure": ""}))
    check_identity(replace(worked, graph=trace(worked.model, worked.example_inputs)))
    found = worked.store.get(RunRecord, "run")
    assert found is not None
    assert (found.content, found.looks) == (record.content, record.looks)
    assert found.structure


def test_data_may_come_later_and_then_stays(context: Context) -> None:
    check_identity(context)
    context.store.put("a/b", OperationRecord(block="a", operation="b", fits=True))
    check_identity(replace(context, data=data("digits")))
    check_identity(context)
    record = context.store.get(RunRecord, "run")
    assert record is not None
    assert record.data == "digits"
    with pytest.raises(UsageError, match="another data"):
        check_identity(replace(context, data=data("other")))


def test_a_run_in_which_nothing_was_finished_is_bound_to_nothing(context: Context) -> None:
    check_identity(context)
    check_identity(replace(context, seed=5))
    record = context.store.get(RunRecord, "run")
    assert record is not None
    assert record.seed == 5
