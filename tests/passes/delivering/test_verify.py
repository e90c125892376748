"""Verification of exported files in ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hant.backends.measuring.statistics import summarise
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.passes.delivering.export import ExportPass
from hant.passes.delivering.records import VerificationRecord
from hant.passes.delivering.verify import VerifyPass, broken_promise, verify
from hant.passes.finetuning.records import StudentRecord
from hant.passes.networks.evaluate import evaluate
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.target import Tolerances
from hant.transformer.contracts.timing import Protocol, Timing
from hant.transformer.data.splits import take
from hant.transformer.errors import LoadError, UnverifiedError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore, tensors_digest

QUICK = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
ANY = Budget.parse("1000ms")


@pytest.fixture(scope="module")
def exported(small_graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student is the teacher itself, exported."""
    return tmp_path_factory.mktemp("verify")


@pytest.fixture
def context(make_context: Callable[..., Context], exported: Path, small_graph: Graph) -> Iterator[Context]:
    with RunStore(exported / "run") as store:
        made = make_context(store, "teacher,identity")
        data = made.dataset
        target = made.target.model_copy(update={"protocol": QUICK})
        made = replace(made, target=target, data=Data(data.train, take(data.test, 70), "few"))
        if store.count("export") == 0:
            student = {block.name: "teacher" for block in small_graph.blocks}
            store.save_tensors("student-weights.safetensors", small_graph.network.state_dict())
            record = StudentRecord(file="student-weights.safetensors", choice=student, epochs=0, held_out_accuracy=0.0)
            store.put("student", record)
            winner = WinnerRecord(
                index=0, choice=student, objective=0, bound=0, predicted_ms=3.0, measured_ms=4.0, teacher_ms=4.0
            )
            store.put("winner", winner)
            ExportPass().run(made)
        yield made


def test_the_record_holds_latency_parity_and_accuracy_in_the_runtime(context: Context) -> None:
    VerifyPass(budget=ANY).run(context)
    record = context.store.get(VerificationRecord, "verification")
    assert record is not None
    expected = evaluate(context.teacher.network, context.dataset.test)
    assert record.teacher_accuracy == record.student_accuracy == pytest.approx(expected.accuracy)
    assert (record.test_samples, record.parity_samples) == (70, 64)
    assert record.max_abs_difference <= 1e-4
    assert record.top1_agreement == 1.0
    assert record.within_budget
    assert record.ratio_low <= record.ratio <= record.ratio_high
    assert record.predicted_ratio == 0.75
    assert len(record.student.samples) == len(record.teacher.samples) == 3
    assert {"device", "runtime", "torch", "load_average"} <= record.provenance.keys()


@pytest.mark.parametrize(("budget", "shown"), [("0.001ms", "0.001ms"), ("0.0001", "0.0001")])
def test_a_student_over_budget_is_recorded_and_not_verified(context: Context, budget: str, shown: str) -> None:
    with pytest.raises(UnverifiedError, match=f"outside the budget of {shown}; the machine may be busy: run hant-opt"):
        VerifyPass(budget=Budget.parse(budget)).run(context)
    record = context.store.get(VerificationRecord, "verification")
    assert record is not None
    assert not record.within_budget


def test_a_student_that_computes_something_else_is_not_verified(context: Context) -> None:
    weights = context.store.load_tensors("student-weights.safetensors")
    changed = {name: tensor + 0.01 if "head" in name else tensor for name, tensor in weights.items()}
    context.store.save_tensors("student-weights.safetensors", changed)
    try:
        with pytest.raises(UnverifiedError, match=r"outputs in the runtime differ from PyTorch's by up to .* do not"):
            VerifyPass(budget=ANY).run(context)
    finally:
        context.store.save_tensors("student-weights.safetensors", weights)


def test_an_exported_file_that_was_lost_or_changed_is_not_verified_and_only_it_is_made_again(context: Context) -> None:
    path, other = context.store.path("student.onnx"), context.store.path("student.pt2")
    before, others = path.read_bytes(), other.stat().st_mtime_ns
    student = context.store.get(StudentRecord, "student")
    assert student is not None
    weights = context.store.load_tensors(student.file)
    context.store.put("student", student.model_copy(update={"digest": tensors_digest(weights)}))
    ExportPass().run(context)  # of an earlier version's student it does not know what it was made from
    VerifyPass(budget=ANY).run(context)
    others = other.stat().st_mtime_ns
    assert (ExportPass().lost(context), VerifyPass().lost(context)) == ("", "")
    damages: list[tuple[Callable[[], object], str]] = [
        (path.unlink, "student.onnx is missing"),
        (partial(path.write_bytes, b"another"), r"student.onnx is not what was exported \(another SHA-256\)"),
    ]
    for damage, words in damages:
        damage()
        assert re.fullmatch(words, ExportPass().lost(context))
        with pytest.raises(LoadError, match=f"cannot be verified: {words}; hant-opt export .* writes them again"):
            VerifyPass(budget=ANY).run(context)
        ExportPass().run(context)
        assert path.read_bytes() == before
        assert other.stat().st_mtime_ns == others
        assert ExportPass().lost(context) == ""
    context.store.put("student", student)


def test_a_target_that_cannot_run_here_is_left_to_its_device(context: Context) -> None:
    half = context.target.model_copy(update={"precision": "fp16"})
    with pytest.raises(UnverifiedError, match=r"target test cannot be run here: .*; run hant-opt verify .* on the dev"):
        VerifyPass(budget=ANY).run(replace(context, target=half))


def record(**changes: float) -> VerificationRecord:
    timing = summarise([1.0], True)
    facts: dict[str, Any] = {
        "ratio": 0.4,
        "max_abs_difference": 0.0,
        "max_scaled_difference": 0.0,
        "top1_agreement": 1.0,
        "within_budget": True,
        **changes,
    }
    return VerificationRecord(
        teacher=timing,
        student=timing,
        ratio_low=0.4,
        ratio_high=0.4,
        predicted_ratio=0.4,
        parity_samples=64,
        teacher_accuracy=99.0,
        student_accuracy=98.0,
        test_samples=100,
        provenance={},
        **facts,
    )


def differing(absolute: float, scaled: float) -> dict[str, float]:
    return {"max_abs_difference": absolute, "max_scaled_difference": scaled}


@pytest.mark.parametrize("difference", [float("inf"), float("nan")])
def test_a_difference_that_is_no_finite_number_is_kept_in_the_run(tmp_path: Path, difference: float) -> None:
    with RunStore(tmp_path) as store:
        store.put("verification", record(**differing(difference, difference)))
    with RunStore(tmp_path) as store:
        kept = store.get(VerificationRecord, "verification")
    assert kept is not None
    assert str(kept.max_abs_difference) == str(difference)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"within_budget": False, "ratio": 0.5}, "outside the budget of 0.45; the machine may be busy"),
        (differing(2e-4, 2e-4), "differ from PyTorch's by up to 0.0002, more than the 0.0001 that the target allows"),
        (
            differing(0.5, 5e-4),
            "by up to 0.5, 0.0005 of an output's largest value, more than the 0.0001 that the target allows",
        ),
        (differing(0.05, 5e-5), None),
        (differing(float("nan"), float("nan")), "differ from PyTorch's by up to nan"),
        (differing(float("inf"), float("inf")), "by up to inf, more than the 0.0001 that the target allows"),
        ({"top1_agreement": 0.98}, "agree on 98.0 % of the images, less than the 99 % that the target asks for"),
    ],
)
def test_what_breaks_the_promise(changes: dict[str, float], reason: str | None) -> None:
    found = broken_promise(record(**changes), Budget.parse("0.45"), Tolerances(), "RUN")
    assert found is None if reason is None else found is not None and reason in found


class Scripted(OnnxRuntimeBackend):
    """Runs networks for real, and tells times of a script: one ratio of student to teacher a sitting."""

    def __init__(self, ratios: Sequence[float]) -> None:
        self.ratios, self.sittings = iter(ratios), 0

    def time(self, runners: Any, inputs: Any, target: Any) -> tuple[Timing, ...]:
        if len(runners) != 2:  # the plain call
            return super().time(runners, inputs, target)
        self.sittings += 1
        ratio = next(self.ratios)
        teacher = [1.0 + 0.001 * (i % 3) for i in range(20)]
        student = [ratio * value * (1 + 0.01 * (i % 5 - 2)) for i, value in enumerate(teacher)]
        return summarise(teacher, True), summarise(student, True)


@pytest.mark.parametrize(
    ("ratios", "sittings", "within"),
    [
        ((0.40,), range(1, 2), True),
        ((0.50,), range(1, 2), False),
        # one sitting's memory lay badly: above the budget, then below it
        ((0.453, *[0.43] * 4), range(2, 6), True),
        ((0.447, *[0.47] * 4), range(2, 6), False),
        # too close to tell, however long: the median of all samples decides
        ((0.451, 0.449, 0.449, 0.449, 0.449, 0.449), range(6, 7), True),
    ],
)
def test_a_student_too_close_to_the_budget_is_timed_again(
    context: Context, ratios: tuple[float, ...], sittings: range, within: bool
) -> None:
    backend = Scripted(ratios)
    budget = Budget.parse("0.45")
    record = verify(replace(context, backend=backend), budget, 2)
    assert backend.sittings in sittings
    assert record.within_budget is within
    assert len(record.teacher.samples) == len(record.student.samples) == 20 * backend.sittings
    assert record.ratio_low <= record.ratio <= record.ratio_high


def test_a_budget_in_ms_is_compared_with_the_students_own_interval(context: Context) -> None:
    backend = Scripted((0.453, 0.43, 0.43, 0.43))
    assert verify(replace(context, backend=backend), Budget.parse("0.45ms"), 2).within_budget
    assert backend.sittings > 1
    backend = Scripted((0.40,))
    assert verify(replace(context, backend=backend), Budget.parse("0.45ms"), 2).within_budget
    assert backend.sittings == 1


def test_a_plain_call_is_timed_beside_the_bound_one(context: Context) -> None:
    record = verify(context, ANY, 2)
    assert record.plain_ratios is not None
    assert all(ratio > 0.5 for ratio in record.plain_ratios)
