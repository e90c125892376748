"""The student is trained on the teacher's features before labels are used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from hant.passes.finetuning.align import ALIGNED, AlignPass
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import AlignmentRecord, EpochRecord, StudentRecord
from hant.passes.finetuning.start import student
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import Tensor

MakeContext = Callable[..., Context]
OpenRun = Callable[..., Context]

CHOICE = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}
QUICK = AlignPass(epochs=3, batch_size=64)


class Killed(BaseException):
    """The process ends here."""


_PRETRAINED: dict[str, Path] = {}


@pytest.fixture
def prepared(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, make_context: MakeContext) -> OpenRun:
    """Make a run of its own with a winner; candidates are trained once for all tests."""

    def open_run(name: str = "run", choice: dict[str, str] = CHOICE) -> Context:
        if not _PRETRAINED:
            _PRETRAINED["run"] = tmp_path_factory.mktemp("pretrained") / "run"
            with RunStore(_PRETRAINED["run"]) as store:
                PretrainPass(epochs=1, batch_size=64).run(make_context(store, "teacher,identity,cb_res_3x3"))
        shutil.copytree(_PRETRAINED["run"], tmp_path / name)
        context = make_context(RunStore(tmp_path / name), "teacher,identity,cb_res_3x3")
        winner = WinnerRecord(index=0, choice=choice, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2)
        context.store.put("winner", winner)
        return context

    return open_run


def aligned(context: Context) -> dict[str, Tensor]:
    return context.store.load_tensors(ALIGNED)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_alignment_brings_the_student_nearer_to_the_teacher(prepared: OpenRun, small_graph: Graph) -> None:
    context = prepared()
    before = {name: tensor.clone() for name, tensor in small_graph.module.state_dict().items()}
    result = QUICK.run(context)
    start, *epochs = context.store.all(EpochRecord).values()
    assert [row.epoch for row in epochs] == [1, 2, 3]
    assert (start.epoch, start.train_loss) == (0, None)
    assert min(row.divergence for row in epochs) < 0.5 * start.divergence
    losses = [row.train_loss or 0.0 for row in epochs]
    assert losses[0] > losses[-1] > 0
    assert result.notes[0].endswith("of 3")
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_graph.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in small_graph.module.parameters())


def test_stem_and_head_stay_the_teachers_and_blocks_are_trained(prepared: OpenRun, small_graph: Graph) -> None:
    context = prepared()
    start = {name: tensor.clone() for name, tensor in student(context, CHOICE).network.state_dict().items()}
    QUICK.run(context)
    found = aligned(context)
    assert found.keys() == start.keys()
    for name, tensor in found.items():
        frozen = name.startswith(("stem", "head"))
        assert torch.equal(tensor, start[name]) == frozen, name


def test_the_teachers_blocks_stay_where_their_share_is_nothing(prepared: OpenRun) -> None:
    context = prepared()
    start = {name: tensor.clone() for name, tensor in student(context, CHOICE).network.state_dict().items()}
    replace(QUICK, teacher_share=0.0).run(context)
    weights = [name for name, tensor in start.items() if tensor.ndim > 1]
    assert {name.split(".")[0] for name in weights if not torch.equal(start[name], aligned(context)[name])} == {"two"}


def test_labels_are_not_looked_at_to_train(prepared: OpenRun) -> None:
    whole, blind = prepared("whole"), prepared("blind")
    QUICK.run(whole)
    train = whole.dataset.train
    other = replace(train, labels=9 - train.labels)  # type: ignore[type-var, attr-defined]
    QUICK.run(replace(blind, data=replace(blind.dataset, train=other)))
    assert equal(aligned(whole), aligned(blind))


@pytest.mark.parametrize(("save_seconds", "left"), [(180.0, 40), (0.0, 30)])
def test_a_stopped_run_ends_with_the_same_bits(prepared: OpenRun, save_seconds: float, left: int) -> None:
    whole, stopped = prepared("whole"), prepared("stopped")
    align, augment = replace(QUICK, save_seconds=save_seconds), whole.dataset.augment
    align.run(whole)
    steps = 0

    def stop(images: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 52:  # in the second epoch: examining takes one, the trial of a rate and an epoch 19 and one
            raise Killed
        return cast(Tensor, augment(images, generator))

    data = replace(stopped.dataset, augment=stop)
    with pytest.raises(Killed):
        align.run(replace(stopped, data=data))
    assert stopped.store.get(AlignmentRecord, "alignment") is None
    align.run(replace(stopped, data=data))
    assert equal(aligned(whole), aligned(stopped))
    assert steps == 52 + left


def test_a_student_like_the_teacher_is_left_alone(prepared: OpenRun, small_graph: Graph) -> None:
    context = prepared(choice=dict.fromkeys(CHOICE, "teacher"))
    QUICK.run(context)
    assert equal(aligned(context), dict(small_graph.module.state_dict()))
    record = context.store.get(AlignmentRecord, "alignment")
    assert record is not None
    assert record.epochs == 0


def test_fine_tuning_that_ruins_hands_out_its_start_and_says_so(prepared: OpenRun) -> None:
    context = prepared()
    QUICK.run(context)
    result = FinetunePass(epochs=1, learning_rate=3.0).run(context)
    record = context.store.get(StudentRecord, "student")
    assert record is not None
    assert equal(context.store.load_tensors(record.file), aligned(context))
    assert result.notes[1] == (
        "warning: no epoch of 1 is better on held-out images than the start, which is handed out; "
        "give more epochs, or a lower rate than 3 (finetune.learning_rate)"
    )


def test_fine_tuning_starts_from_the_aligned_student(prepared: OpenRun) -> None:
    context = prepared()
    QUICK.run(context)
    FinetunePass(epochs=0).run(context)
    record = context.store.get(StudentRecord, "student")
    assert record is not None
    assert equal(context.store.load_tensors(record.file), aligned(context))
    FinetunePass(epochs=0, preload="teacher").run(context)
    assert not equal(context.store.load_tensors(record.file), aligned(context))


def test_an_alignment_of_another_choice_is_not_taken(prepared: OpenRun) -> None:
    context = prepared()
    QUICK.run(context)
    winner = context.store.get(WinnerRecord, "winner")
    assert winner is not None
    context.store.put("winner", winner.model_copy(update={"choice": CHOICE | {"one": "teacher"}}))
    FinetunePass(epochs=0).run(context)
    record = context.store.get(StudentRecord, "student")
    assert record is not None
    start = student(context, record.choice).network.state_dict()
    assert equal(context.store.load_tensors(record.file), dict(start))


def test_half_precision_aligns_too(prepared: OpenRun) -> None:
    context = prepared()
    replace(QUICK, epochs=2, mixed_precision="bf16", parts=2).run(context)
    start, *epochs = context.store.all(EpochRecord).values()
    assert epochs[-1].divergence < start.divergence
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in aligned(context).values())


def test_the_test_data_is_never_read(prepared: OpenRun) -> None:
    class Forbidden(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            raise AssertionError("test data was read")

    context = prepared()
    replace(QUICK, epochs=1).run(replace(context, data=Data(context.dataset.train, Forbidden())))


def test_without_a_winner_the_message_says_what_to_run(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store, pytest.raises(UsageError, match="no winner yet; run the rank stage first"):
        QUICK.run(make_context(store))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "option align.epochs is -1, expected 0 or more"),
        ({"batch_size": 1}, "option align.batch_size is 1, expected at least 2"),
        ({"parts": 3}, "option align.parts is 3: batches of 64 images cannot be cut into it"),
        ({"mixed_precision": "bf61"}, "unknown mixed precision 'bf61'; did you mean 'bf16'?"),
    ],
)
def test_wrong_options_say_what_is_expected(prepared: OpenRun, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        replace(QUICK, **options).run(prepared())  # type: ignore[arg-type]
