"""Check on the target what was promised: the student's latency, its outputs and its accuracy.

The exported files are what is checked, since they are what users deploy. Teacher and student are timed interleaved,
again and again while they are too close to the budget to tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...backends.measuring.statistics import Interval, pooled, ratio_interval
from ...transformer.contracts.backend import Runner
from ...transformer.contracts.budget import Budget, Limit
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult
from ...transformer.contracts.progress import Task as Bar
from ...transformer.contracts.target import Tolerances
from ...transformer.contracts.task import Classification, to_device
from ...transformer.contracts.timing import Timing
from ...transformer.data.images import batches, size
from ...transformer.data.splits import take
from ...transformer.errors import LoadError, UnverifiedError
from ...transformer.tools.nested import tensors
from ..latency.predict import predicted_ratio
from ..latency.provenance import absence, here
from ..networks.assemble import load_student
from ..networks.evaluate import count, mean
from ..networks.resolution import as_student_sees
from .absent import verify_absent
from .export import told, wrong_files
from .parity import Array, Difference, Parity, agreement, as_outputs, compare
from .records import ExportRecord, VerificationRecord

_BATCH = 64
_SITTINGS = 6
"""How often teacher and student are opened and timed at most, where they come out too close to the budget to tell."""
_PLAIN_ROUNDS = 20
"""Rounds for the plain call, which decides nothing."""


@dataclass(frozen=True)
class VerifyPass(Pass):
    """Time, compare and evaluate the exported teacher and student in the target's runtime."""

    name: ClassVar[str] = "verify"
    requires: ClassVar[tuple[str, ...]] = ("export",)
    ensures: ClassVar[tuple[str, ...]] = ("verification",)

    budget: Budget = Budget()
    samples: Count = 64
    """Test images whose outputs are compared with PyTorch's."""

    def lost(self, context: Context) -> str:
        """Return which exported files are not those that were verified, or that the target allows less by now."""
        wrong = told(wrong_files(context.store))
        record = context.store.get(VerificationRecord, "verification")
        if wrong or record is None:
            return wrong
        if record.sha256 not in ({}, _verified(context)):
            return "the files were exported anew"
        return intolerable(record, context.target.tolerances) or ""

    def run(self, context: Context) -> PassResult:
        """Write the verification record, whatever it says.

        Raises:
            LoadError: an exported file is missing or not as it was written.
            UnverifiedError: the device is not here, the student is over budget or too far from PyTorch.
        """
        wrong = told(wrong_files(context.store))
        if wrong:
            run = context.store.address
            raise LoadError(f"files of run {run} cannot be verified: {wrong}; hant-opt export {run} writes them again")
        reason = absence(context)
        if reason is not None:
            absent = verify_absent(context, self.budget)
            known = ""
            if absent is not None:
                context.store.put("verification", absent)
                known = f"the student's latency is {_known(absent.student)}, {absent.ratio:.3f} of the teacher's: "
            raise UnverifiedError(f"{known}{reason}; run hant-opt verify {context.store.address} on the device")
        record = verify(context, self.budget, self.samples)
        context.store.put("verification", record)
        failure = broken_promise(record, self.budget, context.target.tolerances, context.store.address)
        if failure is not None:
            raise UnverifiedError(failure)
        return PassResult(notes=_notes(record))


def verify(context: Context, budget: Budget, samples: int) -> VerificationRecord:
    """Return what teacher and student do on the target."""
    teacher, student = runners = _opened(context)
    views = context, as_student_sees(context)
    test, network = context.dataset.test, load_student(context).network.cpu()
    parity, like = _parity(views[1], student, network, samples)
    images = _images(views[0]), _images(views[1])
    teacher_time, student_time, ratio = time_until_decided(context, budget.latency, runners, images)
    plain = plain_ratios(context, teacher, student, images)
    with context.progress.task("verify", 2 * size(test)) as bar:
        accuracies = [_quality(view, runner, like, bar) for view, runner in zip(views, runners, strict=True)]
    return VerificationRecord(
        teacher=teacher_time,
        student=student_time,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        predicted_ratio=predicted_ratio(context.store),
        within_budget=budget.latency.holds(student_time.ms, ratio.value),
        plain_ratios=plain,
        max_abs_difference=parity.difference.absolute,
        max_scaled_difference=parity.difference.scaled,
        top1_agreement=parity.top1_agreement,
        parity_samples=parity.samples,
        metric=context.metric,
        teacher_accuracy=accuracies[0],
        student_accuracy=accuracies[1],
        test_samples=size(test),
        provenance=environment(context),
        sha256=_verified(context),
    )


def _verified(context: Context) -> dict[str, str]:
    """Return the SHA-256 of the files that are run, as exported."""
    record = context.store.get(ExportRecord, "export")
    files = (context.backend.artefact(name) for name in ("teacher", "student"))
    return {name: record.sha256[name] for name in files} if record is not None else {}


def broken_promise(record: VerificationRecord, budget: Budget, tolerances: Tolerances, run: str) -> str | None:
    """Return what of the record is not as promised, in one line; None if all is."""
    if not record.within_budget:
        return (
            f"the student measures {record.student.ms:.4g} ms, {record.ratio:.3f} of the teacher "
            f"({record.ratio_low:.3f} to {record.ratio_high:.3f}), outside the budget of {budget}; "
            f"the machine may be busy: run hant-opt verify {run} again, or give a smaller --budget"
        )
    return intolerable(record, tolerances)


def intolerable(record: VerificationRecord, tolerances: Tolerances) -> str | None:
    """Return how the runtime's outputs differ from PyTorch's more than the target allows; None if they do not."""
    if not record.max_scaled_difference <= tolerances.max_abs:
        absolute, scaled = record.max_abs_difference, record.max_scaled_difference
        share = f", {scaled:.3g} of an output's largest value" if scaled < absolute else ""
        return (
            f"the student's outputs in the runtime differ from PyTorch's by up to {absolute:.3g}{share}, "
            f"more than the {tolerances.max_abs:g} that the target allows; do not deploy it"
        )
    if record.top1_agreement is not None and record.top1_agreement < tolerances.top1_agreement:
        return (
            f"the runtime and PyTorch agree on {100 * record.top1_agreement:.1f} % of the images, less than the "
            f"{100 * tolerances.top1_agreement:g} % that the target asks for; do not deploy it"
        )
    return None


def environment(context: Context) -> dict[str, str]:
    """Return what the figures depend on and what else the machine was doing."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {**here(context), "torch": torch.__version__, "load_average": load}


def _known(timing: Timing) -> str:
    return f"estimated at {timing.ms:.4g} ms" if timing.estimated else f"{timing.ms:.4g} ms before its training"


def _opened(context: Context) -> tuple[Runner, Runner]:
    """Open the exported teacher and student."""
    return _open(context, "teacher"), _open(context, "student")


def _open(context: Context, name: str) -> Runner:
    record = context.store.get(ExportRecord, "export")
    assert record is not None, "required by the pass contract"
    return context.backend.load(context.store.path(record.files[context.backend.artefact(name)]), context.target)


def _parity(context: Context, student: Runner, network: nn.Module, samples: int) -> tuple[Parity, Any]:
    """Compare the student with its network in PyTorch; return also what the network returns, for its form."""
    part, tolerated = take(context.dataset.test, samples), context.target.tolerances.max_abs
    worst, first, like = Difference(0.0, 0.0), [], None
    for images, _ in batches(part, _BATCH):
        with torch.no_grad():
            like = network(images)
        made = as_outputs(student(images.numpy()), like)
        ours, theirs = ([tensor.numpy() for tensor in tensors(outputs)] for outputs in (made, like))
        worst |= compare(ours, theirs, tolerated)
        first.append((ours[0], theirs[0]))
    same = None
    if isinstance(context.dataset.task, Classification):
        same = agreement(*(np.concatenate(rows) for rows in zip(*first, strict=True)))
    return Parity(worst, same, size(part)), like


def time_until_decided(
    context: Context, limit: Limit, runners: tuple[Runner, Runner], images: tuple[Array, Array]
) -> tuple[Timing, Timing, Interval]:
    """Return the timings of the exported teacher and student, which are ``runners``, and their ratio.

    Each is run on its own ``images``.

    Where the interval contains the limit, on either side, both files are opened and timed once more, and the samples
    pooled: how fast a network is depends a little on where in memory it came to lie.
    """
    target, protocol = context.target, context.target.protocol
    inputs = [(part,) for part in images]
    sittings = [context.backend.time(runners, inputs, target)]
    while True:
        teacher, student = (
            pooled(of_one, protocol.confidence, protocol.trim) for of_one in zip(*sittings, strict=True)
        )
        ratio = ratio_interval(student, teacher, protocol.confidence)
        low, high = (ratio.low, ratio.high) if limit.relative else (student.low, student.high)
        if not low <= limit.value <= high or len(sittings) == _SITTINGS:
            return teacher, student, ratio
        sittings.append(context.backend.time(_opened(context), inputs, target))


def plain_ratios(
    context: Context, teacher: Runner, student: Runner, images: tuple[Array, Array]
) -> tuple[float, float] | None:
    """Return what a plain call of teacher and of student takes, arrays in and arrays out, over the teacher's latency.

    Latencies are those of inputs and outputs that stay bound to memory. None on a GPU, whose clock does not see what
    the processor does meanwhile.
    """
    if context.target.device != "cpu":
        return None
    protocol = context.target.protocol.model_copy(update={"max_rounds": _PLAIN_ROUNDS})
    target = context.target.model_copy(update={"protocol": protocol})
    runners = (teacher, PlainCall(teacher), PlainCall(student))
    bound, *plain = context.backend.time(runners, [(images[0],), (images[0],), (images[1],)], target)
    first, second = (ratio_interval(timing, bound, protocol.confidence).value for timing in plain)
    return first, second


class PlainCall(Runner):
    """A network called as most programs do: with arrays, for arrays, nothing bound beforehand."""

    def __init__(self, runner: Runner) -> None:
        """Call ``runner``."""
        self._runner = runner

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        """Run once."""
        return self._runner(*inputs)

    def prepare(self, *inputs: Array) -> Callable[[], object]:
        """Return the plain call."""
        return lambda: self._runner(*inputs)


def _images(context: Context) -> Array:
    """Return real images at the target's batch size, to time with."""
    count = context.target.batch_size
    images = next(iter(batches(take(context.dataset.test, count), count)))[0].numpy()
    return np.resize(images, (count, *images.shape[1:]))


def _quality(context: Context, runner: Runner, like: Any, bar: Bar) -> float:
    """Return the task's metric on the test data; ``like`` is what the network returns in PyTorch."""
    counts = []
    for images, targets in batches(context.dataset.test, _BATCH):
        found = to_device((as_outputs(runner(images.numpy()), like), images, targets), context.device)
        with torch.no_grad():
            counts.append(count(context.dataset.task, *found))
        bar.advance(len(images))
    return mean(counts).accuracy


def _notes(record: VerificationRecord) -> tuple[str, ...]:
    metric = record.metric
    return (
        f"student {record.student.ms:.4g} ms, teacher {record.teacher.ms:.4g} ms, ratio {record.ratio:.3f} "
        f"({record.ratio_low:.3f} to {record.ratio_high:.3f}), predicted {record.predicted_ratio:.3f}",
        f"outputs differ from PyTorch's by at most {record.max_abs_difference:.2g} on {record.parity_samples} images",
        f"{metric.name} {metric.text(record.student_accuracy)}, teacher {metric.text(record.teacher_accuracy)}",
    )
