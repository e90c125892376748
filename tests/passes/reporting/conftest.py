"""A report with everything in it."""

from __future__ import annotations

import pytest
from hant.passes.reporting.schema import (
    AccuracyReport,
    BlockReport,
    EpochReport,
    LatencyReport,
    LimitReport,
    NetworkReport,
    OriginReport,
    ParityReport,
    PointReport,
    Report,
    SearchReport,
)
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Timing

HOSTILE = "<script>alert(1)</script><img src=http://x.example/a onerror='alert(2)'>\"`|]]>&amp;"


def timing(ms: float, estimated: bool = False) -> Timing:
    samples = tuple(ms * (1 + (i % 5 - 2) / 200) for i in range(20))
    return Timing(
        ms=ms, low=0.99 * ms, high=1.01 * ms, trimmed_mean=ms, samples=samples, converged=True, estimated=estimated
    )


@pytest.fixture
def report() -> Report:
    choice = {"layer1.0": "efn_3x3_e1_se1.00", "layer1.1": "teacher", "layer2.0": "identity"}
    return Report(
        budget="0.45, params=50%",
        target=Target(name="cpu-ort", backend="onnxruntime").model_dump(),
        within_budget=True,
        latency=LatencyReport(
            teacher_ms=5.0, student_ms=2.0, ratio=0.4, ratio_interval=(0.39, 0.41), predicted_ratio=0.42,
            estimated=False, teacher=timing(5.0), student=timing(2.0), plain_teacher_ms=5.5, plain_student_ms=2.42,
        ),
        accuracy=AccuracyReport(
            teacher=98.5, student=98.25, drop=0.25, samples=360, max_drop=0.5, selected=97.0, finetuned=98.4
        ),
        parity=ParityReport(max_abs_difference=2e-6, samples=64),
        selection=choice,
        blocks=[
            BlockReport(
                block=block, input="16x8x8", output="16x8x8", teacher="BasicBlock", operation=operation,
                teacher_ms=0.5, student_ms=0.1234, score=0.0213,
            )
            for block, operation in choice.items()
        ],
        search=SearchReport(objective=0.1, bound=0.09, rank=3, selections=100, candidates={"ready": 9, "dropped": 1}),
        parameters={"teacher": 2_000_000, "student": 900_000},
        macs={"teacher": 40_000_000, "student": 14_000_000},
        seconds={"profile": 10.0, "score": 125.0},
        environment={"device": "a processor", "runtime": "onnxruntime 1.31"},
        files={"student.onnx": "abc"},
        limits=[LimitReport(name="params", limit=1e6, teacher=2e6, student=9e5, kept=True)],
        networks=[
            NetworkReport(
                name="teacher", predicted_ms=None, measured_ms=5, low=4.9, high=5.1, teacher_ms=5,
                ratio=1, ratio_interval=(1, 1),
            ),
            # measured while the machine was twice as slow: 4.2 ms were predicted of a teacher of 10 ms
            NetworkReport(
                name="winner", predicted_ms=2.1, measured_ms=4, low=3.9, high=4.1, teacher_ms=10,
                ratio=0.4, ratio_interval=(0.39, 0.41), predicted_ratio=0.42,
            ),
            NetworkReport(
                name="student", predicted_ms=2.1, measured_ms=2, low=1.9, high=2.1, teacher_ms=5,
                ratio=0.4, ratio_interval=(0.39, 0.41), predicted_ratio=0.42,
            ),
        ],
        front=[
            PointReport(budget="0.3", target="cpu-ort", met=True, ratio=0.3, measured_ms=1.5, accuracy=95.0),
            PointReport(budget="0.1", target="cpu-ort", met=False, reason="the least is 0.2"),
        ],
        training=[
            EpochReport(epoch=i, train_loss=1 / i, held_out_accuracy=90 + i, learning_rate=0.1, seconds=2)
            for i in range(1, 5)
        ],
        outside_ms={"teacher": 3.5, "student": 1.7298},
        measured_at="2026-01-31 09:30 UTC",
        operations={"identity": 0.5, "teacher": 0.3, "efn_3x3_e1_se1.00": 0.2},
        origin=OriginReport(
            hant="0.1.0", teacher="c681", inputs=["3x32x32"], data="digits",
            command="hant-opt net.pt --budget 0.45",
            configuration={"model": "net.pt", "passes": {"rank": {"race": "x"}}},
        ),
    )  # fmt: skip


@pytest.fixture
def hostile(report: Report) -> Report:
    """The report with every text that comes from a user replaced by markup."""
    first = report.blocks[0].model_copy(update={"block": HOSTILE, "operation": HOSTILE, "teacher": HOSTILE})
    return report.model_copy(
        update={
            "blocks": [first, *report.blocks[1:]],
            "selection": report.selection | {HOSTILE: HOSTILE},
            "target": report.target | {"name": HOSTILE, "description": HOSTILE, "options": {HOSTILE: HOSTILE}},
            "networks": [report.networks[0].model_copy(update={"name": HOSTILE}), *report.networks[1:]],
            "front": [point.model_copy(update={"target": HOSTILE, "reason": HOSTILE}) for point in report.front],
            "operations": {HOSTILE: 1.0},
            "environment": {HOSTILE: HOSTILE},
            "files": {HOSTILE: HOSTILE},
            "origin": report.origin.model_copy(
                update={"command": HOSTILE, "data": HOSTILE, "configuration": {"model": HOSTILE}}
            ),
        }
    )
