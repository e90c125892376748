"""What can be said of a student whose device is not here: estimated latency, and accuracy in PyTorch."""

from __future__ import annotations

import torch

from ...backends.measuring.statistics import Interval, ratio_interval
from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.task import Classification
from ..latency.measure import measure_network
from ..latency.predict import predicted_ratio
from ..latency.provenance import of_target
from ..latency.records import NetworkLatencyRecord
from ..networks.assemble import load_student
from ..networks.evaluate import evaluate
from ..networks.resolution import as_student_sees
from ..ranking.records import WinnerRecord
from .records import VerificationRecord


def verify_absent(context: Context, budget: Budget) -> VerificationRecord | None:
    """Return the record of a student that cannot be run on its target here; None if the run has no lookup table.

    Latencies are the table's (estimated, or measured by a kit), accuracies PyTorch's in FP32; outputs are not compared.
    """
    winner = context.store.get(WinnerRecord, "winner")
    if winner is None or context.store.get(NetworkLatencyRecord, "teacher") is None:
        return None
    latency = measure_network(context, winner.choice)
    student, teacher = latency.timing, latency.teacher
    ratio = Interval(student.ms / teacher.ms, student.ms / teacher.ms, student.ms / teacher.ms)
    if not student.estimated:
        ratio = ratio_interval(student, teacher, context.target.protocol.confidence)
    networks = context.model, load_student(context).network
    test, task = context.dataset.test, context.dataset.task
    tests = test, as_student_sees(context).dataset.test
    before, after = (
        evaluate(network, part, device=context.device, task=task) for network, part in zip(networks, tests, strict=True)
    )
    return VerificationRecord(
        teacher=teacher,
        student=student,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        predicted_ratio=predicted_ratio(context.store),
        within_budget=budget.latency.holds(student.ms, ratio.value),
        max_abs_difference=0.0,
        max_scaled_difference=0.0,
        top1_agreement=1.0 if isinstance(task, Classification) else None,
        parity_samples=0,
        metric=task.metric,
        teacher_accuracy=before.accuracy,
        student_accuracy=after.accuracy,
        test_samples=after.samples,
        provenance={
            **latency.provenance,
            **of_target(context.target),
            "latency": "estimated" if student.estimated else "measured before the student was trained",
            "accuracy": f"torch {torch.__version__}, fp32",
        },
    )
