from __future__ import annotations

import io
from pathlib import Path

import pytest
from hant.passes.reporting.schema import AccuracyReport, BlockReport, LatencyReport, ParityReport, Report, SearchReport
from hant.transformer.cli.summary import write_summary
from hant.transformer.contracts.task import Metric
from hant.transformer.contracts.timing import Timing
from rich.console import Console


@pytest.fixture
def report() -> Report:
    def timing(ms: float) -> Timing:
        return Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms)

    row = BlockReport(
        block="layer1.0", input="16x32x32", output="16x32x32", teacher="BasicBlock", operation="efn_3x3_e1_se1.00",
        teacher_ms=0.5, student_ms=0.1, score=0.0213,
    )  # fmt: skip
    return Report(
        budget="0.45",
        target={"name": "cpu-ort"},
        within_budget=True,
        latency=LatencyReport(
            teacher_ms=5.0, student_ms=2.0, ratio=0.4, ratio_interval=(0.39, 0.41), predicted_ratio=0.42,
            estimated=False, teacher=timing(5), student=timing(2),
        ),
        accuracy=AccuracyReport(teacher=98.5, student=98.25, drop=0.25, samples=360),
        parity=ParityReport(max_abs_difference=2e-6, samples=64),
        selection={"layer1.0": row.operation},
        blocks=[row],
        search=SearchReport(objective=0.1, bound=0.1, rank=0, selections=100, candidates={"ready": 9}),
        parameters={"teacher": 2, "student": 1},
        macs={"teacher": 2, "student": 1},
        seconds={"profile": 10.0, "score": 20.4},
        environment={},
        files={"student.onnx": "x"},
    )  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_the_summary_says_what_was_asked_and_what_came_out(report: Report, terminal: bool) -> None:
    text = io.StringIO()
    write_summary(report, Path("runs/x"), Console(file=text, force_terminal=terminal, width=110))
    shown = text.getvalue()
    for fact in (
        "layer1.0", "BasicBlock", "efn_3x3_e1_se1.00", "0.5000", "0.1000", "+0.0213",
        "teacher 5 ms, student 2 ms (measured on cpu-ort)",
        "0.400 measured (0.390 .. 0.410), 0.420 predicted; budget 0.45 met",
        "teacher 98.50 %, student 98.25 %, drop 0.25 points (360 test images)",
        "differ from PyTorch's by at most 2e-06 (64 images)",
        "30 s", "runs/x/student.onnx", "runs/x/report.json",
    ):  # fmt: skip
        assert fact in shown
    if not terminal:
        assert "\x1b" not in shown


def test_a_metric_of_the_users_is_named_with_its_unit(report: Report) -> None:
    metric = Metric(name="off by", unit="cm", higher_is_better=False)
    accuracy = AccuracyReport(metric=metric, teacher=2.0, student=2.5, drop=0.5, samples=9, max_drop=0.25)
    text = io.StringIO()
    write_summary(report.model_copy(update={"accuracy": accuracy}), Path("runs/x"), Console(file=text, width=200))
    assert "accuracy  off by: teacher 2 cm, student 2.5 cm, drop 0.5 cm (9 test images); limit 0.25" in text.getvalue()


def test_an_estimate_is_called_one(report: Report) -> None:
    latency = report.latency.model_copy(update={"estimated": True})
    text = io.StringIO()
    changed = report.model_copy(update={"latency": latency, "within_budget": False})
    write_summary(changed, Path("runs/x"), Console(file=text))
    assert "(estimated on cpu-ort)" in text.getvalue()
    assert "0.400 estimated" in text.getvalue()
    assert "budget 0.45 NOT met" in text.getvalue()
