"""One training for several students of a run: resumed to the bit, extracted to the bit, stopped where it collapses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.op_library.cost import macs
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.records import OperationRecord
from hant.passes.finetuning.align import ALIGNED
from hant.passes.finetuning.examine import Found
from hant.passes.finetuning.records import AlignmentRecord, EpochRecord
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.records import WinnerRecord
from hant.passes.sharing.examine import StudentsExaminer
from hant.passes.sharing.extract import ExtractPass
from hant.passes.sharing.network import SharedNetwork
from hant.passes.sharing.records import SharedRecord
from hant.passes.sharing.shrink import SHARED, ShrinkPass
from hant.transformer.contracts.context import Context
from hant.transformer.errors import UsageError
from hant.transformer.runs.store import RunStore
from torch import Tensor

MakeContext = Callable[..., Context]
OpenRun = Callable[..., Context]

POOL = "teacher,identity,cb_res_3x3,slice_w0.5"
MIXED = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}
SLICED = {"one": "slice_w0.5", "two": "slice_w0.5", "three": "identity"}
QUICK = ShrinkPass(students=("mixed", "sliced"), epochs=2, align_epochs=0, batch_size=256, learning_rate=0.02)


class Killed(BaseException):
    """The process ends here."""


_MADE: dict[str, Path] = {}
"""Runs to copy and not to change."""


def win(context: Context, name: str, choice: dict[str, str]) -> None:
    winner = WinnerRecord(index=0, choice=choice, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2)
    context.store.of(name).put("winner", winner)


@pytest.fixture
def prepared(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, make_context: MakeContext) -> Iterator[OpenRun]:
    """Make a run of its own with two winners, trained by ``QUICK`` where that is asked for; both is done once."""

    opened: list[RunStore] = []

    def begin(place: Path) -> Context:
        opened.append(RunStore(place))
        context = make_context(opened[-1], POOL)
        _count_macs(context)
        return context

    def once(kind: str) -> Path:
        if kind not in _MADE:
            _MADE[kind] = tmp_path_factory.mktemp(kind) / "run"
            if kind == "trained":
                shutil.copytree(once("pretrained"), _MADE[kind])
            context = begin(_MADE[kind])
            if kind == "trained":
                QUICK.run(context)
            else:
                PretrainPass(epochs=0.2, batch_size=64, derived="copy").run(context)
                win(context, "mixed", MIXED)
                win(context, "sliced", SLICED)
            opened.pop().close()
        return _MADE[kind]

    def open_run(name: str = "run", trained: bool = False) -> Context:
        shutil.copytree(once("trained" if trained else "pretrained"), tmp_path / name)
        return begin(tmp_path / name)

    yield open_run
    for store in opened:
        store.close()


def _count_macs(context: Context) -> None:
    """Put in what each operation costs."""
    for block in context.teacher.blocks:
        for spec in context.pool:
            record = context.store.get(OperationRecord, f"{block.name}/{spec.name}")
            if record is not None and record.fits:
                cost = macs(build_candidate(block, spec, 0), block.input)
                context.store.put(f"{block.name}/{spec.name}", record.model_copy(update={"macs": cost}))


def shared(context: Context) -> dict[str, Tensor]:
    return context.store.load_tensors(SHARED)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def record_of(context: Context) -> SharedRecord:
    record = context.store.get(SharedRecord, "shared")
    assert record is not None
    return record


def extract(context: Context, name: str) -> dict[str, Tensor]:
    student = replace(context, store=context.store.of(name))
    ExtractPass().run(student)
    return student.store.load_tensors(ALIGNED)


def test_students_are_trained_together_and_told_one_by_one(prepared: OpenRun) -> None:
    context = prepared()
    note = replace(QUICK, batch_size=64).run(context).notes[0]
    record = record_of(context)
    assert (record.students, record.steps, record.epochs) == ({"mixed": MIXED, "sliced": SLICED}, 38, 2)
    assert record.operations["two"] == ["cb_res_3x3", "slice_w0.5", "teacher"]
    start, *epochs = context.store.all(EpochRecord).values()
    assert (start.students, [row.stage for row in epochs]) == ({}, ["shrink"] * 2)
    assert all(row.students.keys() == {"mixed", "sliced"} for row in epochs)
    assert epochs[0].held_out_accuracy == pytest.approx(sum(epochs[0].students.values()) / 2)
    assert min(row.divergence for row in epochs) < start.divergence
    assert record.accuracies == min(epochs, key=lambda row: row.divergence).students
    assert f"{record.steps} steps, {record.cost:.1f} epochs of the full network" in note
    assert context.store.path(SHARED) == context.store.of("mixed").path(SHARED)


def test_a_student_is_cut_out_with_the_bits_that_it_had_and_norms_of_its_own(prepared: OpenRun) -> None:
    context = prepared(trained=True)
    found = {name: extract(context, name) for name in ("sliced", "mixed")}
    network = SharedNetwork(context.teacher, record_of(context).operations, CandidateWeights(context.store))
    network.network.load_state_dict(shared(context))
    for name, choice in (("mixed", MIXED), ("sliced", SLICED)):
        wanted = network.student(choice).network.state_dict()
        norms = {key for key in wanted if "running" in key or "tracked" in key}
        assert found[name].keys() == wanted.keys()
        assert all(torch.equal(found[name][key], wanted[key]) for key in wanted.keys() - norms)
        assert not all(torch.equal(found[name][key], wanted[key]) for key in norms)
    assert equal(extract(prepared("other", trained=True), "mixed"), found["mixed"])  # whichever is cut out first
    record = context.store.of("mixed").get(AlignmentRecord, "alignment")
    assert record is not None
    assert record.choice == MIXED


def test_the_order_of_the_students_changes_nothing(prepared: OpenRun) -> None:
    one, other = prepared("one", trained=True), prepared("other")
    replace(QUICK, students=("sliced", "mixed")).run(other)
    assert equal(shared(one), shared(other))


@pytest.mark.parametrize(
    "options", [{"align_epochs": 1, "epochs": 1}, {"schedule": "deps", "delay": 0.3}], ids=["align", "deps"]
)
def test_a_stopped_run_ends_with_the_same_bits(prepared: OpenRun, options: dict[str, Any]) -> None:
    whole, stopped = prepared("whole"), prepared("stopped")
    shrink = replace(QUICK, save_seconds=0.0, **options)
    shrink.run(whole)
    for last in (2, 4):  # of the batches that each go takes: in the delay and behind it, in both stages
        augment, count = stopped.dataset.augment, 0

        def stop(
            images: Tensor,
            generator: torch.Generator,
            last: int = last,
            augment: Callable[[Tensor, torch.Generator], Tensor] | None = augment,
        ) -> Tensor:
            nonlocal count
            count += len(images) == 256  # not those of examinations
            if count > last:
                raise Killed
            return images if augment is None else augment(images, generator)

        with pytest.raises(Killed):
            shrink.run(replace(stopped, data=replace(stopped.dataset, augment=stop)))
    shrink.run(stopped)
    assert equal(shared(whole), shared(stopped))


def test_a_later_selection_of_trained_operations_is_cut_out_and_another_is_refused(prepared: OpenRun) -> None:
    context = prepared(trained=True)
    before = shared(context)
    win(context, "later", {"one": "slice_w0.5", "two": "cb_res_3x3", "three": "identity"})
    extract(context, "later")
    assert equal(shared(context), before)
    win(context, "other", {"one": "cb_res_3x3", "two": "teacher", "three": "teacher"})
    with pytest.raises(UsageError, match=r"has no one/cb_res_3x3, which student other is made of; train it anew"):
        extract(context, "other")


def test_what_is_lost_is_told(prepared: OpenRun) -> None:
    context = prepared(trained=True)
    assert QUICK.lost(context) == ""
    win(context, "mixed", {**MIXED, "one": "cb_res_3x3"})
    assert QUICK.lost(context) == "other selections have won since"
    context.store.discard(SHARED)
    assert QUICK.lost(context) == f"{SHARED} is missing"


def test_a_collapse_with_a_finite_loss_ends_the_training_with_the_best_state(
    prepared: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, usual = prepared(), StudentsExaminer.examine
    examined: list[Found] = []

    def collapsed(self: StudentsExaminer, *words: object) -> Found:
        if len(examined) == 2:  # after the start and an epoch: weights that answer nothing
            with torch.no_grad():
                for name, parameter in self._shared.network.named_parameters():
                    parameter.mul_(0.0 if name.startswith("head") else 1.0)
        examined.append(usual(self, *words))  # type: ignore[arg-type]
        return examined[-1]

    monkeypatch.setattr(StudentsExaminer, "examine", collapsed)
    notes = replace(QUICK, epochs=4).run(context).notes
    assert notes[-1].startswith("stopped after epoch 2: no student is better than chance any more")
    assert record_of(context).epochs == 2
    assert max(record_of(context).accuracies.values()) > 33


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": "none", "schedule": "align"}, "shrink.start=none and shrink.schedule=align do not go together"),
        ({"schedule": "random", "teach": "full"}, "shrink.teach=full needs a schedule that trains the full network"),
    ],
)
def test_options_that_do_not_go_together_are_refused(prepared: OpenRun, options: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replace(QUICK, **options).check(prepared())  # type: ignore[arg-type]


def test_students_without_a_selection_are_refused(prepared: OpenRun) -> None:
    with pytest.raises(UsageError, match="student nobody has no winner yet; run: hant-opt rank"):
        replace(QUICK, students=("nobody",)).run(prepared())
    with pytest.raises(UsageError, match="shrink has no students to train"):
        ShrinkPass().run(prepared("other"))
