from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hant.passes.finetuning.finetune import LAST, FinetunePass
from hant.passes.finetuning.labels import loss_of
from hant.passes.finetuning.recipe import FinetuneRecipe, automatic_epochs
from hant.passes.finetuning.records import EpochRecord, StudentRecord
from hant.passes.finetuning.start import initialise
from hant.passes.networks.assemble import load_student
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data, Sample
from hant.transformer.data.splits import split
from hant.transformer.errors import UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore
from torch import Tensor
from torch.nn.functional import cross_entropy

MakeContext = Callable[..., Context]

CHOICE = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}
QUICK = FinetunePass(epochs=3, batch_size=64, learning_rate=0.05)


OpenRun = Callable[..., Context]
"""Opens the run of a name."""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def prepared(tmp_path: Path, make_context: MakeContext) -> OpenRun:
    """Open a run with a winner, once or again."""

    def open_run(name: str = "run") -> Context:
        store = RunStore(tmp_path / name)
        context = make_context(store, "teacher,identity,cb_res_3x3")
        if not store.count("winner"):
            PretrainPass(epochs=1, batch_size=64).run(context)
            winner = WinnerRecord(
                index=0, choice=CHOICE, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2
            )
            store.put("winner", winner)
        return context

    return open_run


def student_of(context: Context) -> dict[str, Tensor]:
    return load_student(context).network.state_dict()


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_no_epochs_keep_the_weights(prepared: OpenRun, small_graph: Graph) -> None:
    context = prepared()
    FinetunePass(epochs=0).run(context)
    student = student_of(context)
    teacher = small_graph.module.state_dict()
    assert all(torch.equal(student[name], teacher[name]) for name in teacher if name.startswith(("three", "head")))
    record = context.store.get(StudentRecord, "student")
    assert record is not None
    assert (record.epochs, record.choice) == (0, CHOICE)


def test_training_improves_the_student_and_leaves_the_teacher(prepared: OpenRun, small_graph: Graph) -> None:
    context = prepared()
    before = {name: tensor.clone() for name, tensor in small_graph.module.state_dict().items()}
    FinetunePass(epochs=0).run(context)
    start = context.store.get(StudentRecord, "student")
    QUICK.run(context)
    record = context.store.get(StudentRecord, "student")
    assert start is not None
    assert record is not None
    assert record.held_out_accuracy > start.held_out_accuracy
    assert equal(before, small_graph.module.state_dict())
    metrics = evaluate(load_student(context).network, split(context.dataset, 0).held_out)
    assert metrics.accuracy == pytest.approx(record.held_out_accuracy)
    assert [row.epoch for row in context.store.all(EpochRecord).values()] == [0, 1, 2, 3]


ADAMW = {"optimizer": "adamw", "learning_rate": 0.002, "ema": 0.9}


@pytest.mark.parametrize(("options", "left"), [({}, 40), ({"save_seconds": 0, **ADAMW}, 30)])
def test_a_stopped_run_ends_with_the_same_bits(prepared: OpenRun, options: dict[str, Any], left: int) -> None:
    whole, stopped = prepared("whole"), prepared("stopped")
    tuned, augment = replace(QUICK, **options), whole.dataset.augment
    tuned.run(whole)
    steps = 0

    def stop(images: Tensor, _: torch.Generator) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 32:  # in the second epoch: examining takes one, an epoch 19 and one
            raise Killed
        return cast(Tensor, augment(images, _))

    data = replace(stopped.dataset, augment=stop)
    with pytest.raises(Killed):
        tuned.run(replace(stopped, data=data))
    assert stopped.store.get(StudentRecord, "student") is None
    assert stopped.store.count("epoch") == 2  # the start and one epoch
    tuned.run(replace(stopped, data=data))
    assert steps == 32 + left
    assert equal(student_of(whole), student_of(stopped))
    first, second = whole.store.all(EpochRecord), stopped.store.all(EpochRecord)
    assert [row.train_loss for row in first.values()] == [row.train_loss for row in second.values()]


def test_a_loss_that_is_no_number_keeps_the_last_good_state(prepared: OpenRun) -> None:
    context = prepared()
    steps = 0

    def spoil(images: Tensor, _: torch.Generator) -> Tensor:
        nonlocal steps
        steps += 1
        return images * (math.nan if steps > 25 else 1)

    result = QUICK.run(replace(context, data=replace(context.dataset, augment=spoil)))
    assert result.notes[1] == "stopped in epoch 2: the loss is nan; the best weights before it are kept"
    assert all(torch.isfinite(tensor).all() for tensor in student_of(context).values())
    record = context.store.get(StudentRecord, "student")
    assert record is not None
    assert record.epochs == 1
    last = context.store.load_tensors(LAST)
    assert last.keys() == student_of(context).keys()
    assert all(torch.isfinite(tensor).all() for tensor in last.values())


def test_the_test_data_is_never_read(prepared: OpenRun) -> None:
    class Forbidden(torch.utils.data.Dataset[Sample]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Sample:
            raise AssertionError("test data was read")

    context = prepared()
    FinetunePass(epochs=1).run(replace(context, data=Data(context.dataset.train, Forbidden())))


def test_without_distillation_the_loss_is_cross_entropy(prepared: OpenRun) -> None:
    recipe = FinetunePass(distillation=0).recipe(prepared(), "start", 100)
    logits, labels = torch.randn(4, 10), torch.arange(4)
    assert loss_of(logits, labels, logits, recipe) == cross_entropy(logits, labels)
    both = replace(recipe, distillation=1.0)
    assert loss_of(logits, labels, logits, both) == pytest.approx(cross_entropy(logits, labels).item())
    assert loss_of(logits, labels, logits.flip(1), both) > cross_entropy(logits, labels)


@pytest.mark.parametrize(("samples", "epochs"), [(1000, 15), (42_500, 12), (1_281_167, 10)])
def test_automatic_epochs(samples: int, epochs: int) -> None:
    assert automatic_epochs(samples) == epochs


@pytest.mark.parametrize(("samples", "epochs"), [(1000, 10), (49_000, 3), (1_280_000, 1)])
def test_automatic_epochs_behind_an_alignment(samples: int, epochs: int) -> None:
    assert automatic_epochs(samples, aligned=True) == epochs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'?"),
        ({"epochs": -1}, "option finetune.epochs is -1, expected 0 or more; 0 skips it"),
        ({"batch_size": 1}, "option finetune.batch_size is 1, expected at least 2"),
        ({"parts": 3}, "option finetune.parts is 3: batches of 64 images cannot be cut into it"),
        ({"preset": "paper-b3"}, "unknown fine-tuning preset 'paper-b3'; did you mean 'paper-b6'?"),
        ({"preload": "teachers"}, "unknown preloading 'teachers'; did you mean 'teacher'?"),
        ({"mixed_precision": "bf61"}, "unknown mixed precision 'bf61'; did you mean 'bf16'?"),
    ],
)
def test_wrong_options_say_what_is_expected(prepared: OpenRun, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        FinetunePass(**options).run(prepared())


def recipe_of(context: Context, **options: Any) -> FinetuneRecipe:
    return FinetunePass(**options).recipe(context, "start", 1_281_167)


@pytest.mark.parametrize(
    ("preset", "batch_size", "rate"), [("paper-b2", 2048, 0.02), ("paper-b4", 4096, 0.04), ("paper-b6", 1536, 0.08)]
)
def test_the_papers_presets(prepared: OpenRun, preset: str, batch_size: int, rate: float) -> None:
    context = prepared()
    recipe = recipe_of(context, preset=preset)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (100, batch_size, rate)
    assert (recipe.cross_entropy, recipe.distillation) == (1.0, 1.0)
    assert recipe_of(context, preset=preset, epochs=5, batch_size=32).batch_size == 32


def test_preloading_decides_what_the_student_starts_from(prepared: OpenRun, small_graph: Graph) -> None:
    """``three`` is the teacher's block, ``two`` a candidate."""
    context = prepared()
    teacher, found = small_graph.module.state_dict(), {}
    for preload in ("all", "teacher", "none"):
        FinetunePass(epochs=0, preload=preload).run(context)
        found[preload] = student_of(context)
    kept = [name for name in teacher if name.startswith(("stem", "three", "head")) and teacher[name].ndim > 1]
    two = [name for name, tensor in found["all"].items() if name.startswith("two") and tensor.ndim > 1]
    assert kept
    assert two
    for preload, teachers, candidates in (("all", True, True), ("teacher", True, False), ("none", False, False)):
        assert all(torch.equal(found[preload][name], teacher[name]) == teachers for name in kept)
        assert all(torch.equal(found[preload][name], found["all"][name]) == candidates for name in two)
    FinetunePass(epochs=0, preload="none").run(context)
    assert equal(student_of(context), found["none"])


def test_a_weight_that_nobody_knows_how_to_draw_is_named() -> None:
    with pytest.raises(UsageError, match="weight gamma cannot be drawn anew"):
        initialise(torch.nn.ParameterDict({"gamma": torch.nn.Parameter(torch.ones(2))}))
    drawn = torch.nn.ParameterDict({"table": torch.nn.Parameter(torch.ones(2, 2))})
    initialise(drawn)
    assert (drawn["table"] != 1).all()


@pytest.mark.parametrize("options", [{"mixed_precision": "bf16", "channels_last": True}, {"parts": 4}])
def test_other_ways_to_compute_train_too(prepared: OpenRun, options: dict[str, Any], small_graph: Graph) -> None:
    context = prepared()
    FinetunePass(epochs=0).run(context)
    start = context.store.get(StudentRecord, "student")
    replace(QUICK, epochs=1, **options).run(context)
    record = context.store.get(StudentRecord, "student")
    assert start is not None
    assert record is not None
    assert record.held_out_accuracy > start.held_out_accuracy
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in student_of(context).values())
    assert all(tensor.is_contiguous() for tensor in small_graph.module.parameters())


def test_without_a_winner_the_message_says_what_to_run(tmp_path: Path, make_context: MakeContext) -> None:
    with RunStore(tmp_path) as store, pytest.raises(UsageError, match="no winner yet; run the rank stage first"):
        QUICK.run(make_context(store))
